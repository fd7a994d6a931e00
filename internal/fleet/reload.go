package fleet

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
	"oidc-provider/internal/filewatch"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
	"oidc-provider/web"
)

// A reloader reads the configuration file, and its directory of issuers, when they
// change.
type reloader struct {
	path    string
	log     *slog.Logger
	dir     *config.Dir
	running *config.Config // what the process was started with
	hup     chan os.Signal

	// These belong to the goroutine that runs.
	file filewatch.File
	data []byte // of the file, as it was read last
	err  error  // what is wrong with the file

	problems atomic.Pointer[error] // with everything; nil if there are none
	// lost is set while something is not served, not even as it was before.
	lost atomic.Bool
}

// newReloader begins with cfg, which was parsed from data.
func newReloader(path string, data []byte, cfg *config.Config, log *slog.Logger) *reloader {
	r := &reloader{path: path, log: log, running: cfg, dir: config.NewDir(cfg), data: data, hup: make(chan os.Signal, 1)}
	signal.Notify(r.hup, syscall.SIGHUP) // which would end the process otherwise
	return r
}

// first applies the issuers that exist at the start.
func (r *reloader) first(apply func([]config.Issuer)) {
	r.dir.Scan(time.Now(), true)
	r.apply(apply)
}

// lookInterval is the time between two looks for changes. A file must then stay
// the same for restFor: one that is being written may be valid half-way.
const (
	lookInterval = 100 * time.Millisecond
	restFor      = 500 * time.Millisecond
)

// run looks for changes until ctx is done, and passes the issuers to apply. SIGHUP
// makes it look at once.
func (r *reloader) run(ctx context.Context, apply func([]config.Issuer)) {
	defer signal.Stop(r.hup)
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for n := 0; ; n++ {
		force := false
		select {
		case <-ctx.Done():
			return
		case <-r.hup:
			r.log.Info("reading the configuration again after SIGHUP")
			force = true
		case <-tick.C:
		}
		changed := (force || n%2 == 0) && r.read(time.Now(), force)
		if r.dir.Scan(time.Now(), force) || changed || force {
			r.apply(apply)
		}
	}
}

// read reads the file if it has changed, and reports whether that changes
// anything. A file that cannot be used changes nothing but r.err.
func (r *reloader) read(now time.Time, force bool) (changed bool) {
	if !r.file.Look(input.Stat(r.path)[0], now, restFor) && !force {
		return false
	}
	before := r.err
	data, err := config.Read(r.path)
	if err != nil {
		r.file.Forget() // a network file system may recover, though the file stays the same
	} else {
		if bytes.Equal(data, r.data) && !force {
			return false
		}
		var cfg *config.Config
		if cfg, err = config.Parse(r.path, data); err == nil {
			r.dir.Reparent(cfg)
			if fields := needRestart(r.running, cfg); len(fields) > 0 {
				err = fmt.Errorf("%s: a change of %s needs a restart", r.path, strings.Join(fields, ", "))
			}
			changed = true
		}
	}
	r.data, r.err = data, err // a file that was missing is new when it is back
	return changed || fmt.Sprint(before) != fmt.Sprint(err)
}

// needRestart returns the fields that differ, besides the issuers.
func needRestart(a, b *config.Config) (fields []string) {
	x, y := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for i := range x.NumField() {
		name, _, _ := strings.Cut(x.Type().Field(i).Tag.Get("yaml"), ",")
		// The defaults of issuers are already applied to them.
		if slices.Contains([]string{"issuers", "issuersDir", "issuersDirAllow", "jwksMaxAge", "discoveryMaxAge"}, name) {
			continue
		}
		if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			fields = append(fields, name)
		}
	}
	return fields
}

// apply passes the issuers on, and reports what is wrong with the others.
func (r *reloader) apply(apply func([]config.Issuer)) {
	issuers, problems := r.dir.Issuers()
	if r.err != nil {
		problems = append([]error{r.err}, problems...)
	}
	if more := len(problems) - maxListed; more > 0 {
		problems = append(problems[:maxListed:maxListed], fmt.Errorf("%d more problems", more))
	}
	err := errors.Join(problems...)
	previous := r.problem()
	switch {
	case err == nil:
		r.problems.Store(nil)
	default:
		r.problems.Store(&err)
	}
	if fmt.Sprint(previous) != fmt.Sprint(err) {
		if err != nil {
			r.log.Error("a part of the configuration cannot be used; keeping the previous one", "err", err)
		} else {
			r.log.Info("all of the configuration can be used again")
		}
	}
	r.lost.Store(r.dir.Lost())
	apply(issuers)
}

// problem returns what is wrong with the configuration.
func (r *reloader) problem() error {
	if err := r.problems.Load(); err != nil {
		return *err
	}
	return nil
}

// check is for /readyz. A problem in the configuration affects no issuer that is
// served already. If all issuers must be ready, those count as well that never
// were.
func (r *reloader) check(all bool) web.Check {
	return web.Check{Name: "configuration", Advisory: !all || !r.lost.Load(), Run: func() (string, error) {
		if err := r.problem(); err != nil {
			return "", hint.Wrap(errors.New(strings.ReplaceAll(err.Error(), "\n", "; ")), hint.Of(err))
		}
		return r.path + " is in force", nil
	}}
}

func (r *reloader) metric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "oidc_provider_config_reload_failing",
		Help: "1 while a part of the configuration cannot be used.",
	}, func() float64 { return boolean(r.problem() != nil) })
}
