package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/shardlog/shardlog/stream"
)

var checkCommand = &command{
	words: "check", args: "DIR", short: "verify all files and records of a database",
	long: `
Reads everything in the database in DIR, which no process may have open: all
files with their checksums, the metadata, every block of records, and whether
records are missing between them. It prints a line for each damage, with the
file and the place, and writes nothing.

-repair replaces a damaged database by one that holds all that can be read, and
keeps the old files in a directory below DIR. It needs room for a second copy.
If it is interrupted, run it again.

The exit code is 0 if the database is sound, or was repaired, and 1 otherwise.`,
}

func init() { checkCommand.run = runCheck }

func runCheck(e *env, args []string) error {
	f := e.flags()
	repair := f.Bool("repair", false, "keep what can be read")
	var keyFile string
	textFlag(f, &keyFile, "key-file", "", "`file` with the encryption key in hexadecimal", nil)
	rest, err := e.parse(f, args, 1)
	if err != nil {
		return err
	}
	dir := rest[0]
	if err := wantDatabase(dir); err != nil {
		return err
	}
	o := &stream.Options{}
	if keyFile != "" {
		key, err := e.readKeyFile(keyFile)
		if err != nil {
			return err
		}
		o.EncryptionKey = key
	}
	if *repair {
		return runRepair(e, dir, o)
	}
	r, err := stream.Check(e.ctx, dir, o)
	if err != nil {
		return err
	}
	printCheck(e, r)
	if !r.Sound() {
		return fmt.Errorf("%s is damaged: %d findings; shardlog check -repair keeps what can be read", dir, len(r.Findings))
	}
	return nil
}

func runRepair(e *env, dir string, o *stream.Options) error {
	r, err := stream.Repair(e.ctx, dir, o)
	if err != nil {
		return err
	}
	if r.Before != nil {
		printCheck(e, r.Before)
	}
	if r.Old == "" {
		fmt.Fprintln(e.stdout, "nothing to repair")
		return nil
	}
	fmt.Fprintf(e.stdout, "repaired; the old files are in %s\n", r.Old)
	return nil
}

func printCheck(e *env, r *stream.CheckReport) {
	for _, f := range r.Findings {
		fmt.Fprintln(e.stdout, f)
	}
	fmt.Fprintf(e.stdout, "%d files, %d bytes; found whole: %d streams, %d shards, %d blocks, %d journal entries, %d records\n",
		r.Files, r.Bytes, r.Streams, r.Shards, r.Blocks, r.JournalEntries, r.Records)
}

func (e *env) readKeyFile(path string) ([]byte, error) {
	b, err := e.readFile(path)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) == 0 {
		return nil, errors.New(path + " does not hold a key in hexadecimal")
	}
	return key, nil
}
