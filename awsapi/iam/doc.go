// Package iam reads policies of AWS's Identity and Access Management. It
// imports nothing of this module and keeps no state, so that any service can
// check what its users write.
//
// Reading is strict, unlike that of encoding/json, which takes "effect" for
// "Effect" and the last of two members with one name: a policy that two readers
// understand differently protects nothing. Policies are not evaluated yet.
package iam
