package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, hint.Wrap(err, "another program uses that address; set {"+setting+"} to another one")
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.Wrap(err, deniedHint(setting, addr))
	}
	return nil, hint.Wrap(err, "an address looks like 127.0.0.1:8080 or :8080")
}

// deniedHint returns the hint for an address that this process may not listen on.
func deniedHint(setting, addr string) string {
	_, text, _ := net.SplitHostPort(addr)
	if n, err := net.LookupPort("tcp", text); err != nil || n >= 1024 {
		return "a security module, such as SELinux or AppArmor, may forbid it; see the log of the kernel"
	}
	return fmt.Sprintf("user %d may not use ports below 1024: set {%s} to a higher one, or set "+
		"AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, or the sysctl net.ipv4.ip_unprivileged_port_start",
		os.Geteuid(), setting)
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
