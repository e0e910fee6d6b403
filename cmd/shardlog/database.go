package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// Opening a directory makes a database of it unless it is one. So commands look
// before they open: those that read or put want a database, and those that make
// one want a directory that holds nothing else.

// incidental reports whether a file is one that systems, desktops or version
// control put into a directory that people take for empty.
func incidental(name string) bool {
	switch name {
	case "lost+found", ".snapshot", ".DS_Store", "Thumbs.db", "desktop.ini", ".directory", ".gitkeep", ".gitignore", ".keep":
		return true
	}
	return strings.HasPrefix(name, ".Trash") || strings.HasPrefix(name, ".nfs") || strings.HasPrefix(name, "._")
}

// wantDatabase returns an error unless dir holds a database. It writes nothing.
func wantDatabase(dir string) error {
	fresh, _, err := lookInto(dir)
	if err == nil && fresh {
		err = fmt.Errorf("no database in %s; shardlog stream create -dir and shardlog serve -dir make one", dir)
	}
	return err
}

// wantRoom returns an error unless dir holds a database or nothing, or is not
// there. It writes nothing.
func wantRoom(dir string) error {
	fresh, others, err := lookInto(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && fresh && others != "" {
		err = fmt.Errorf("no database in %s, which holds other files, such as %s; a new database needs a directory of its own", dir, others)
	}
	return err
}

// lookInto reports whether dir holds no database, and the name of a file in it
// that belongs to none, "" if there is no such file. A database that is damaged,
// or was being restored, is one: opening it says what is wrong.
func lookInto(dir string) (fresh bool, others string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, "", err
	}
	own := false
	for _, e := range entries {
		switch name := e.Name(); {
		case badgerfile.OwnFile(name) || name == badgerfile.RestoreName || name == badgerfile.RepairName:
			own = true
		case others == "" && !incidental(name):
			others = name
		}
	}
	if !own {
		return true, others, nil
	}
	// A process that was killed while it made a database may have left some files
	// of one. Where the files cannot be read, or are being changed, opening says
	// more about it.
	r, err := badgerfile.Inspect(dir, nil, false, 0)
	return err == nil && r.Fresh, others, nil
}
