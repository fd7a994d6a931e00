package fleet

import (
	"cmp"
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
	"oidc-provider/internal/describe"
	"oidc-provider/internal/mirror"
	"oidc-provider/jwks"
	"oidc-provider/web"
)

// A mirrored source publishes third-party keys.
type mirrored struct {
	*mirror.Mirror
	from mirror.Source
	docs *web.Documents

	// published belongs to the goroutine that runs. Before that it is nil: what
	// is recalled from an earlier run is not reported.
	published func() bool
}

func newMirrored(cfg *config.Issuer, docs *web.Documents, stateDir string, before predecessor,
	log *slog.Logger) (*mirrored, error) {
	c, err := MirrorConfig(cfg, stateDir)
	if err != nil {
		return nil, err
	}
	m := &mirrored{from: c.Source, docs: docs}
	c.Publish, c.Log = m.publish, log
	if before != nil {
		c.Predecessor = &mirror.Predecessor{Mirror: before.legacy().mirror}
	}
	m.Mirror = mirror.New(c)
	return m, nil
}

// MirrorConfig returns where the keys of an issuer that is not managed come from,
// and where below stateDir the last good ones are kept.
func MirrorConfig(cfg *config.Issuer, stateDir string) (c mirror.Config, err error) {
	c.Issuer = cfg.Issuer
	switch {
	case cfg.APIServer != nil:
		c.Interval, c.State = time.Duration(cfg.APIServer.Interval), stateFile(stateDir, cfg.Issuer)
		c.Source, err = mirror.NewAPIServer(cfg.APIServer.Kubeconfig, cfg.APIServer.Context, cfg.Issuer,
			cfg.APIServer.KubeLimits)
	case cfg.Files != nil:
		c.Interval = time.Duration(cfg.Files.Interval) // the files are the state
		c.Source, err = mirror.NewFiles(cfg.Files.Paths)
	case cfg.URL != nil:
		c.Interval, c.State = time.Duration(cfg.URL.Interval), stateFile(stateDir, cfg.Issuer)
		c.Source, err = mirror.NewURL(cfg.URL.JWKS, cfg.URL.CAFile)
	}
	return c, err
}

// stateFile returns the file that keeps the last good key set of issuer.
func stateFile(dir, issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return filepath.Join(dir, hex.EncodeToString(sum[:16])+".json")
}

// publish is called by mirror.New, and then by the goroutine that runs.
func (m *mirrored) publish(keys []jwks.PublicKey) error {
	if err := m.docs.Show(keys); err != nil {
		return err
	}
	if m.published != nil {
		m.published()
	}
	return nil
}

func (m *mirrored) run(ctx context.Context, published func() bool) error {
	m.published = published
	m.Run(ctx)
	return nil
}

func (m *mirrored) settled() bool { return m.Keys() != nil || m.Status().Failure != nil }

func (m *mirrored) doing() string { return "fetching keys from " + m.from.String() }

func (m *mirrored) legacy() legacy { return legacy{mirror: m.Mirror} }

func (m *mirrored) checks() []web.Check {
	return []web.Check{
		{Name: "keys", Run: m.checkKeys},
		{Name: "source", Advisory: true, Run: m.checkSource},
	}
}

func (m *mirrored) checkKeys() (string, error) {
	s := m.Status()
	if s.Keys == 0 {
		return "", fmt.Errorf("nothing to publish yet: %w", cmp.Or(s.Failure, errors.New("not fetched yet")))
	}
	return fmt.Sprintf("%d keys of %s, changed %s", s.Keys, m.from, ago(s.Changed)), nil
}

func (m *mirrored) checkSource() (string, error) {
	s := m.Status()
	switch {
	case s.Failure != nil:
		return "", fmt.Errorf("fetched %s, failing since %s: %w", ago(s.Fetched), describe.Time(s.FailingSince), s.Failure)
	case s.Alternating:
		return "", fmt.Errorf("fetched %s; the key set changes back and forth, and keys have come back %d times: %w",
			ago(s.Fetched), s.Returned, mirror.ErrAlternating)
	case len(s.Skipped) > 0:
		return "", fmt.Errorf("fetched %s; not published: %s", ago(s.Fetched), strings.Join(s.Skipped, "; "))
	case s.FromState:
		return "", errors.New("the keys are from before the start, fetched " + ago(s.Fetched))
	}
	return "fetched " + ago(s.Fetched), nil
}

func (m *mirrored) collect(to sample, _ time.Time) { collectMirror(to, m.Status()) }

func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(time.Second).String() + " ago"
}
