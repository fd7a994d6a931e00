package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/internal/config"
	"oidc-provider/web"
)

// A reloader brings changes of the configuration file, and of its directory of
// issuers, to the fleet.
type reloader struct {
	file    string
	log     *slog.Logger
	apply   func([]config.Issuer)
	dir     *config.Dir
	running *config.Config // what the process was started with
	hup     chan os.Signal

	data, next []byte    // of the file, as it was read last, and as it may have become
	since      time.Time // when next was first seen

	err      error                  // what is wrong with the file
	problems atomic.Pointer[string] // with everything, "" if nothing
	lost     atomic.Bool            // something is not served for it, nor what it was before
}

// newReloader begins with cfg, which was made of data.
func newReloader(file string, data []byte, cfg *config.Config, log *slog.Logger) *reloader {
	r := &reloader{file: file, log: log, running: cfg, dir: config.NewDir(cfg), data: data, hup: make(chan os.Signal, 1)}
	r.problems.Store(new(string))
	signal.Notify(r.hup, syscall.SIGHUP) // which would end the process otherwise
	return r
}

// first brings the issuers that are there at the start.
func (r *reloader) first() {
	r.dir.Scan(time.Now(), true)
	r.bring()
}

// look is how often a change is looked for. The file must then stay as it is
// for settle: one that is being written may make sense half-way.
const (
	look   = 100 * time.Millisecond
	settle = 500 * time.Millisecond
)

// run looks for changes until ctx is done. SIGHUP makes it look at once.
func (r *reloader) run(ctx context.Context) {
	defer signal.Stop(r.hup)
	tick := time.NewTicker(look)
	defer tick.Stop()
	for n := 0; ; n++ {
		force := false
		select {
		case <-ctx.Done():
			return
		case <-r.hup:
			r.log.Info("reading the configuration again, since SIGHUP asked for it")
			force = true
		case <-tick.C:
		}
		changed := (force || n%2 == 0) && r.read(time.Now(), force)
		if r.dir.Scan(time.Now(), force) || changed || force {
			r.bring()
		}
	}
}

// read reads the file if it has changed, and keeps what was before if it cannot
// be used.
func (r *reloader) read(now time.Time, force bool) (changed bool) {
	before := r.err
	data, err := config.Read(r.file)
	if err == nil {
		if !bytes.Equal(data, r.next) {
			r.next, r.since = data, now
		}
		settled := force || now.Sub(r.since) >= settle
		if !settled || bytes.Equal(data, r.data) && !force {
			return false
		}
		var cfg *config.Config
		if cfg, err = config.Parse(r.file, data); err == nil {
			r.dir.Reparent(cfg)
			if fields := needRestart(r.running, cfg); len(fields) > 0 {
				err = fmt.Errorf("%s: a change of %s needs a restart", r.file, strings.Join(fields, ", "))
			}
			changed = true
		}
	}
	r.data, r.err = data, err // a file that was away is new when it is back
	return changed || fmt.Sprint(before) != fmt.Sprint(err)
}

// needRestart are the fields, besides issuers, that differ.
func needRestart(a, b *config.Config) (fields []string) {
	x, y := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for i := range x.NumField() {
		name, _, _ := strings.Cut(x.Type().Field(i).Tag.Get("yaml"), ",")
		// The defaults of issuers have gone into them.
		if slices.Contains([]string{"issuers", "issuersDir", "jwksMaxAge", "discoveryMaxAge"}, name) {
			continue
		}
		if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			fields = append(fields, name)
		}
	}
	return fields
}

// bring hands the issuers on, and tells what is wrong with the others.
func (r *reloader) bring() {
	issuers, problems := r.dir.Issuers()
	if r.err != nil {
		problems = append([]error{r.err}, problems...)
	}
	text := ""
	if err := errors.Join(problems...); err != nil {
		text = err.Error()
	}
	if before := *r.problems.Swap(&text); before != text {
		if text != "" {
			r.log.Error("a part of the configuration cannot be used; what was in force goes on", "err", text)
		} else {
			r.log.Info("all of the configuration can be used again")
		}
	}
	r.lost.Store(r.dir.Lost())
	r.apply(issuers)
}

// check is for /readyz: what is wrong with the configuration stops nobody who
// is served already. If all issuers must be ready, so must those be that are not
// even known.
func (r *reloader) check(all bool) web.Check {
	return web.Check{Name: "configuration", Advisory: !all || !r.lost.Load(), Run: func() (string, error) {
		if text := *r.problems.Load(); text != "" {
			return "", errors.New(strings.ReplaceAll(text, "\n", "; "))
		}
		return r.file + " is in force", nil
	}}
}

func (r *reloader) metric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "oidc_provider_config_reload_failing",
		Help: "1 while a part of the configuration cannot be used.",
	}, func() float64 {
		if *r.problems.Load() != "" {
			return 1
		}
		return 0
	})
}
