package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/awsapi/stsapi"
	"github.com/shardlog/shardlog/stream"
)

var serveCommand = &command{
	words: "serve", short: "serve a log over the Kinesis protocol",
	long: `
Serves the streams of a directory, or of memory, to Kinesis clients. The first
line on standard output is "listening on http://HOST:PORT"; with -tls-addr a
second one is "listening on https://HOST:PORT", which serves the same streams.
SIGTERM and SIGINT stop it: it answers the requests that are in progress and
closes the log. A second signal ends it immediately.

Clients need the URL as their endpoint, a region and any credentials. An access
key of 12 digits is used as the account ID. The certificate that -tls and
-tls-addr make is new at each start; -save-cert writes it to a file for clients
to trust.

Without -credentials any program may do everything, but no web page of another
origin may, unless -allow-origin names it.

GET /_shardlog/health and /_shardlog/ready return 200 when it is up.`,
	run: func(e *env, args []string) error { return serve(e, args) },
}

// serveFlags are the flags of serve.
type serveFlags struct {
	addr, tlsAddr, dir, durability string
	memory, tls, limits, admin     bool
	adminRemote, verbose           bool
	cert, key, saveCert            string
	credentials, account, region   string
	shardsPerStream, shardLimit    int
	createTime, update, deleteFor  time.Duration
	drain                          time.Duration
	connections                    int
	allowOrigins                   []string
}

// Bounds of flags.
const (
	maxStateTime   = 24 * time.Hour
	maxShardLimit  = 10_000_000
	maxConnections = 1 << 20
)

func (s *serveFlags) register(f *flagSet) {
	textFlag(f, &s.addr, "addr", "127.0.0.1:4567", "`address` to listen on; port 0 selects a free one", checkAddress)
	textFlag(f, &s.tlsAddr, "tls-addr", "", "`address` to serve https on in addition to http on -addr", checkAddress)
	textFlag(f, &s.dir, "dir", "", "`directory` of the log; created if it does not exist", nil)
	f.BoolVar(&s.memory, "memory", false, "keep everything in memory; the default if there is no -dir")
	textFlag(f, &s.durability, "durability", "always", "`when` writes to -dir are synced: always (before the response), interval or never", nil)
	f.BoolVar(&s.tls, "tls", false, "serve https on -addr, and no http, with a self-signed certificate unless -cert is given")
	textFlag(f, &s.cert, "cert", "", "PEM `file` with the certificate; implies -tls unless there is a -tls-addr", nil)
	textFlag(f, &s.key, "key", "", "PEM `file` with the certificate's private key", nil)
	textFlag(f, &s.saveCert, "save-cert", "", "write the self-signed certificate to this PEM `file`, for clients (-cacert, AWS_CA_BUNDLE)", nil)
	f.BoolVar(&s.limits, "limits", false, "apply the limits of Kinesis to shards of new streams and to operations")
	textFlag(f, &s.credentials, "credentials", "", `JSON `+"`file`"+` with access keys and secrets, {"KEY":"SECRET"}; turns on the verification of signatures`, nil)
	f.Func("allow-origin", "web page to answer without -credentials, such as http://localhost:3000, or * for all; may be given more than once", func(text string) error {
		if text == "" {
			return errEmpty
		}
		s.allowOrigins = append(s.allowOrigins, text)
		return nil
	})
	textFlag(f, &s.account, "account", "000000000000", "account `ID` for access keys that are not 12 digits", nil)
	textFlag(f, &s.region, "region", "us-east-1", "`region` of requests that do not name one", nil)
	intFlag(f, &s.shardsPerStream, "shards-per-stream", 4, 1, stream.MaxShards, "`number` of shards of a stream that is created without a shard count")
	intFlag(f, &s.shardLimit, "shard-limit", 10_000, 1, maxShardLimit, "`number` of open shards that an account may have in a region")
	durationFlag(f, &s.createTime, "create-time", 0, 0, maxStateTime, "`time` that a stream stays CREATING, 0s to 24h")
	durationFlag(f, &s.update, "update-time", 0, 0, maxStateTime, "`time` that a stream stays UPDATING, 0s to 24h")
	durationFlag(f, &s.deleteFor, "delete-time", 0, 0, maxStateTime, "`time` that a stream stays DELETING, 0s to 24h")
	f.BoolVar(&s.admin, "admin", true, "serve /_shardlog/ (reset, faults, clock, limits) to this machine")
	f.BoolVar(&s.adminRemote, "admin-remote", false, "serve /_shardlog/ to other machines as well")
	durationFlag(f, &s.drain, "drain", 10*time.Second, 0, maxStateTime, "`time` to wait for requests in progress when stopping, 0s to 24h")
	intFlag(f, &s.connections, "max-connections", 8192, 1, maxConnections, "`number` of connections that are served at the same time; others wait")
	f.BoolVar(&s.verbose, "v", false, "log details to standard error")
}

// check returns what is wrong with the flags together, "" if nothing is.
func (s *serveFlags) check() string {
	switch {
	case s.memory && s.dir != "":
		return "-memory and -dir exclude each other"
	case (s.cert == "") != (s.key == ""):
		return "-cert and -key go together"
	case s.tls && s.tlsAddr != "":
		return "-tls, which serves https on -addr, and -tls-addr exclude each other"
	case s.saveCert != "" && (s.cert != "" || !s.tls && s.tlsAddr == ""):
		return "-save-cert is for the certificate that -tls or -tls-addr makes"
	}
	if _, ok := durabilities[s.durability]; !ok {
		return fmt.Sprintf("-durability %q: must be always, interval or never", s.durability)
	}
	return ""
}

func serve(e *env, args []string) error {
	var s serveFlags
	f := e.flags()
	s.register(f)
	if _, err := e.parse(f, args, 0); err != nil {
		return err
	}
	if wrong := s.check(); wrong != "" {
		return e.misused("%s", wrong)
	}
	level := slog.LevelWarn
	if s.verbose {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
	// What can be wrong with the command line is found first: a server that
	// cannot start opens no log and creates no directory.
	opts, err := s.options(e, logger)
	if err != nil {
		return err
	}
	if err := opts.Validate(); err != nil {
		return e.misused("%v", err)
	}
	o := &stream.Options{InMemory: true, Logger: logger}
	if s.dir != "" {
		o = &stream.Options{Durability: durabilities[s.durability], Logger: logger}
		if err := wantRoom(s.dir); err != nil {
			return err
		}
	}
	doors, err := s.listen()
	if err != nil {
		return err
	}
	cert, err := s.openCert()
	if err != nil {
		return errors.Join(err, doors.close())
	}
	db, err := stream.Open(s.dir, o)
	if err != nil {
		return errors.Join(err, cert.discard(), doors.close())
	}
	if err := cert.write(doors); err != nil {
		return errors.Join(err, doors.close(), db.Close())
	}
	return errors.Join(s.serve(e, db, opts, doors), doors.close(), db.Close())
}

var durabilities = map[string]stream.Durability{
	stream.SyncAlways.String(): stream.SyncAlways, stream.SyncInterval.String(): stream.SyncInterval, stream.SyncNever.String(): stream.SyncNever,
}

func (s *serveFlags) options(e *env, logger *slog.Logger) (*kinesisapi.Options, error) {
	o := &kinesisapi.Options{
		Account: s.account, Region: s.region, DefaultShards: s.shardsPerStream, ShardLimit: s.shardLimit,
		CreateTime: s.createTime, UpdateTime: s.update, DeleteTime: s.deleteFor,
		AllowOrigins: s.allowOrigins, Admin: s.admin, AdminRemote: s.adminRemote, Logger: logger,
	}
	if s.limits {
		o.Limits, o.ControlLimits = stream.KinesisLimits(), true
	}
	if s.credentials != "" {
		b, err := e.readFile(s.credentials)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(b, &o.Credentials); err != nil || len(o.Credentials) == 0 {
			return nil, fmt.Errorf(`%s: must be JSON as {"KEY":"SECRET"}`, s.credentials)
		}
	}
	return o, nil
}

// releaseAfter is the time from the start until unused memory is returned to
// the operating system.
const releaseAfter = 200 * time.Millisecond

func (s *serveFlags) serve(e *env, db *stream.DB, opts *kinesisapi.Options, doors doors) error {
	h, err := kinesisapi.NewHandler(db, opts, stsapi.Service())
	if err != nil {
		return err
	}
	defer h.Close()
	if e.ctx.Err() != nil {
		return nil // a signal came while the log was opened
	}
	done := make(chan error, len(doors))
	servers := make([]*http.Server, len(doors))
	for i, d := range doors {
		if _, err := fmt.Fprintf(e.stdout, "listening on %s://%s\n", d.scheme(), d.Addr()); err != nil {
			return err
		}
		servers[i] = h.Server()
		servers[i].TLSConfig = d.tls
	}
	// The memory that opening needed is returned, so that an idle server is small.
	// That takes milliseconds, so it happens after the first requests.
	defer time.AfterFunc(releaseAfter, debug.FreeOSMemory).Stop()
	for i, d := range doors {
		go func() {
			if d.tls != nil {
				done <- servers[i].ServeTLS(d, "", "")
			} else {
				done <- servers[i].Serve(d)
			}
		}()
	}
	running := len(servers)
	select {
	case err = <-done: // the others end as well
		running--
	case <-e.ctx.Done():
	}
	err = errors.Join(err, s.shutdown(servers))
	for range running {
		if end := <-done; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
	}
	return err
}

// shutdown ends the servers, all within the drain.
func (s *serveFlags) shutdown(servers []*http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.drain)
	defer cancel()
	errs := make(chan error, len(servers))
	for _, srv := range servers {
		go func() {
			err := srv.Shutdown(ctx)
			if err != nil {
				err = errors.Join(fmt.Errorf("requests were under way after %v: %w", s.drain, err), srv.Close())
			}
			errs <- err
		}()
	}
	var err error
	for range servers {
		err = errors.Join(err, <-errs)
	}
	return err
}
