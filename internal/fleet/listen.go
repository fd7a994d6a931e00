package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"oidc-provider/internal/certs"
	"oidc-provider/internal/config"
	"oidc-provider/internal/hint"
)

// bind opens every address and loads the certificate.
func (f *Fleet) bind(ctx context.Context) (err error) {
	settings := f.cfg.Settings
	if t := settings.TLS; t != nil && t.ACME == nil {
		if f.cert, err = certs.Load(t.CertFile, t.KeyFile); err != nil {
			return err
		}
	}
	if f.public, err = f.listen(ctx, "listen", settings.Listen); err != nil {
		return err
	}
	if f.admin, err = f.listen(ctx, "adminListen", settings.AdminListen); err != nil {
		return err
	}
	if settings.TLS != nil && settings.TLS.ACME != nil {
		return f.bindACME(ctx, settings.TLS.ACME)
	}
	return nil
}

func (f *Fleet) bindACME(ctx context.Context, cfg *config.ACME) (err error) {
	acme := certs.ACMEConfig{
		Directory: cfg.Directory, Email: cfg.Email, Storage: cfg.Storage, CAFile: cfg.CAFile, Challenges: cfg.Challenges,
		TLSPort: port(f.public), CheckInterval: time.Duration(cfg.CheckInterval), Log: f.cfg.Log,
	}
	if slices.Contains(cfg.Challenges, config.HTTP01) {
		if f.challenges, err = f.listen(ctx, "tls.acme.httpListen", cfg.HTTPListen); err != nil {
			return err
		}
		acme.HTTPPort = port(f.challenges)
	}
	f.acme, err = certs.NewACME(acme)
	return err
}

func port(l net.Listener) int {
	_, text, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.Atoi(text)
	return n
}

// listen opens the address of a setting.
func (f *Fleet) listen(ctx context.Context, setting, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err == nil {
		return l, nil
	}
	err = fmt.Errorf("%s: %w", f.cfg.SettingName(setting), err)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, hint.Wrap(err, "another program uses that address; set {"+setting+"} to another one")
	}
	return nil, hint.Wrap(err, "an address looks like 127.0.0.1:8080 or :8080")
}

// tuneGC trades memory for requests. With few issuers the live heap is below a
// megabyte, and collecting garbage less often costs little. With many it would
// cost as much memory again as everything that they need.
func tuneGC(issuers int) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent := 400
	if issuers > 100 {
		percent = 50
	}
	debug.SetGCPercent(percent)
}
