// Package lint holds rules of the project that a compiler does not know, as
// tests: what may depend on what, and what files and documents look like.
package lint
