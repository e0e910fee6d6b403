package stream

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
)

// A backup is a header, the pairs of keys and values, and a trailer with their
// number and a checksum, so that one that was cut short or damaged is
// recognized. docs/FORMAT.md has the bytes.

var backupMagic = [8]byte{'S', 'L', 'B', 'A', 'C', 'K', 'U', formatVersion}

const (
	backupEnd      = ^uint32(0) // in the place of a key length
	maxBackupKey   = 64 << 10
	maxBackupValue = 1 << 28
)

// Backup writes a copy of the database to w, as it was at one moment: every
// record acknowledged before the call is in it, and so are the checkpoints of
// DB.Checkpoints. It blocks until everything is written; the database can be
// used meanwhile, but disk space is not reclaimed. The backup is not encrypted,
// whether the database is or not.
func (db *DB) Backup(ctx context.Context, w io.Writer) error {
	if err := db.enter(ctx, "backup", ""); err != nil {
		return err
	}
	if w == nil {
		return &shardlog.Error{Op: "backup", Err: &shardlog.InvalidError{Field: "w", Value: nil, Limit: "not nil"}}
	}
	if err := db.backup(ctx, w); err != nil {
		return &shardlog.Error{Op: "backup", Err: err}
	}
	return nil
}

func (db *DB) backup(ctx context.Context, w io.Writer) error {
	snap, err := db.log.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Close()
	b := &backupWriter{w: bufio.NewWriterSize(w, 1<<20), sum: xxhash.New()}
	b.write(backupMagic[:])
	var keys [][]byte
	err = snap.Scan(nil, func(k []byte, _ int64) bool {
		// Filler is written to make Badger flush, and means nothing.
		if k[0] != badgerkv.FillerPrefix {
			keys = append(keys, append([]byte(nil), k...))
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := ctx.Err(); err != nil {
			return shardlog.ContextError(ctx)
		}
		v, err := snap.Get(k)
		if err != nil {
			return err
		}
		if err := b.pair(k, v); err != nil {
			return err
		}
	}
	return b.finish()
}

type backupWriter struct {
	w   *bufio.Writer
	sum *xxhash.Digest
	n   uint64
	err error
}

func (b *backupWriter) write(p []byte) {
	if b.err == nil {
		_, _ = b.sum.Write(p) // never fails
		_, b.err = b.w.Write(p)
	}
}

func (b *backupWriter) pair(k, v []byte) error {
	b.write(binary.LittleEndian.AppendUint32(nil, uint32(len(k))))
	b.write(binary.LittleEndian.AppendUint32(nil, uint32(len(v))))
	b.write(k)
	b.write(v)
	b.n++
	return b.err
}

func (b *backupWriter) finish() error {
	b.write(binary.LittleEndian.AppendUint32(nil, backupEnd))
	b.write(binary.LittleEndian.AppendUint64(nil, b.n))
	sum := b.sum.Sum64()
	b.write(binary.LittleEndian.AppendUint64(nil, sum))
	return errors.Join(b.err, b.w.Flush())
}

// Bounds of one transaction of Restore: its pairs, all bytes, and kv.Batch's
// Inline.
const (
	restorePairs  = 500
	restoreBytes  = 4 << 20
	restoreInline = 64 << 10
)

func readBackup(ctx context.Context, r io.Reader, store kv.Store) error {
	b := &backupReader{r: r, sum: xxhash.New()}
	head := b.read(len(backupMagic))
	switch {
	case b.err != nil:
		return b.err
	case string(head[:7]) != string(backupMagic[:7]):
		return fmt.Errorf("%w: not a backup", shardlog.ErrCorrupt)
	case head[7] > formatVersion:
		return fmt.Errorf("%w: the backup has format %d, this program knows up to %d", shardlog.ErrVersion, head[7], formatVersion)
	}
	var batch kv.Batch
	for n := uint64(0); ; n++ {
		if err := ctx.Err(); err != nil {
			return shardlog.ContextError(ctx)
		}
		k, v, ok := b.pair()
		if b.err != nil {
			return b.err
		}
		if !ok {
			if err := b.trailer(n); err != nil {
				return err
			}
			// Records may have been written and read after the backup was made:
			// their numbers are skipped, as after an unclean shutdown.
			batch.Set(keyState, []byte(stateOpen+SyncNever.String()))
			return store.Commit(&batch)
		}
		batch.Set(k, v)
		if len(batch.Ops) >= restorePairs || batch.Bytes >= restoreBytes || batch.Inline >= restoreInline {
			if err := store.Commit(&batch); err != nil {
				return err
			}
			batch.Reset()
		}
	}
}

type backupReader struct {
	r   io.Reader
	sum *xxhash.Digest
	err error
}

// read returns the next n bytes. It allocates the memory for a large n as the
// bytes arrive, because a damaged backup may say any n.
func (b *backupReader) read(n int) []byte {
	if b.err != nil {
		return nil
	}
	const step = 1 << 20
	p := make([]byte, 0, min(n, step))
	for len(p) < n {
		from := len(p)
		p = append(p, make([]byte, min(n-from, step))...)
		if _, err := io.ReadFull(b.r, p[from:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("%w: the backup is cut short", shardlog.ErrCorrupt)
			}
			b.err = err
			return nil
		}
	}
	_, _ = b.sum.Write(p)
	return p
}

func (b *backupReader) uint32() uint32 {
	if p := b.read(4); b.err == nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

// pair returns the next key and value; ok is false at the trailer.
func (b *backupReader) pair() (k, v []byte, ok bool) {
	kl := b.uint32()
	if b.err != nil || kl == backupEnd {
		return nil, nil, false
	}
	vl := b.uint32()
	if b.err == nil && (kl == 0 || kl > maxBackupKey || vl > maxBackupValue) {
		b.err = fmt.Errorf("%w: a pair of %d and %d bytes in the backup", shardlog.ErrCorrupt, kl, vl)
	}
	k, v = b.read(int(kl)), b.read(int(vl))
	return k, v, b.err == nil
}

func (b *backupReader) trailer(pairs uint64) error {
	n := b.read(8)
	want := b.sum.Sum64()
	sum := b.read(8)
	switch {
	case b.err != nil:
		return b.err
	case binary.LittleEndian.Uint64(n) != pairs:
		return fmt.Errorf("%w: the backup has %d pairs, and says %d", shardlog.ErrCorrupt, pairs, binary.LittleEndian.Uint64(n))
	case binary.LittleEndian.Uint64(sum) != want:
		return fmt.Errorf("%w: the backup fails its checksum", shardlog.ErrCorrupt)
	}
	return nil
}
