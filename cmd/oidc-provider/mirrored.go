package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"oidc-provider/internal/config"
	"oidc-provider/internal/mirror"
	"oidc-provider/jwks"
	"oidc-provider/web"
)

// A mirrored source is the keys of somebody else.
type mirrored struct {
	*mirror.Mirror
	from  mirror.Source
	docs  *web.Documents
	shown func() bool // to be told of every publication, once this runs
}

// newMirrored makes the source of cfg. before is what shows the issuer until
// this one has heard something, nil if nothing does.
func newMirrored(cfg *config.Issuer, docs *web.Documents, stateDir string, before *keeper, log *slog.Logger) (*mirrored, error) {
	c, err := mirrorConfig(cfg, stateDir)
	if err != nil {
		return nil, err
	}
	m := &mirrored{from: c.Source, docs: docs}
	c.Publish, c.Log, c.Quiet = m.publish, log, before != nil
	if before != nil {
		if other, ok := before.source.(*mirrored); ok {
			c.After = other.Mirror
		}
	}
	m.Mirror = mirror.New(c)
	return m, nil
}

// mirrorConfig says where the keys of a mirrored issuer come from, and where the
// last good ones are kept.
func mirrorConfig(cfg *config.Issuer, stateDir string) (c mirror.Config, err error) {
	c.Issuer = cfg.Issuer
	switch {
	case cfg.APIServer != nil:
		c.Interval, c.State = time.Duration(cfg.APIServer.Interval), stateFile(stateDir, cfg.Issuer)
		c.Source, err = mirror.NewAPIServer(cfg.APIServer.Kubeconfig, cfg.APIServer.Context, cfg.Issuer)
	case cfg.Files != nil:
		c.Interval = time.Duration(cfg.Files.Interval) // the files are the state
		c.Source, err = mirror.NewFiles(cfg.Files.Paths)
	case cfg.URL != nil:
		c.Interval, c.State = time.Duration(cfg.URL.Interval), stateFile(stateDir, cfg.Issuer)
		c.Source, err = mirror.NewURL(cfg.URL.JWKS, cfg.URL.CAFile)
	}
	return c, err
}

// stateFile is where the last good key set of issuer is kept.
func stateFile(dir, issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return filepath.Join(dir, hex.EncodeToString(sum[:16])+".json")
}

// publish is called by New, and then by the goroutine that runs.
func (m *mirrored) publish(keys []jwks.PublicKey) error {
	if err := m.docs.Show(keys); err != nil {
		return err
	}
	if m.shown != nil {
		m.shown()
	}
	return nil
}

// run implements [source].
func (m *mirrored) run(ctx context.Context, shown func() bool) error {
	m.shown = shown
	m.Run(ctx)
	return nil
}

// settled implements [source].
func (m *mirrored) settled() bool { return m.Keys() != nil || m.Status().Failure != "" }

// checks implements [source].
func (m *mirrored) checks() []web.Check {
	return []web.Check{
		{Name: "keys", Run: func() (string, error) {
			s := m.Status()
			if s.Keys == 0 {
				return "", fmt.Errorf("nothing to show yet: %s", orElse(s.Failure, "not fetched yet"))
			}
			return fmt.Sprintf("%d keys of %s, changed %s", s.Keys, m.from, ago(s.Changed)), nil
		}},
		{Name: "source", Advisory: true, Run: func() (string, error) {
			s := m.Status()
			if s.Failure != "" {
				return "", fmt.Errorf("fetched %s, failing since %s: %s", ago(s.Fetched), formatTime(s.FailingSince), s.Failure)
			}
			if len(s.Skipped) > 0 {
				return "", fmt.Errorf("fetched %s; passed over: %s", ago(s.Fetched), strings.Join(s.Skipped, "; "))
			}
			if s.Recalled {
				return "", errors.New("what is shown is from before the start, fetched " + ago(s.Fetched))
			}
			return "fetched " + ago(s.Fetched), nil
		}},
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(time.Second).String() + " ago"
}
