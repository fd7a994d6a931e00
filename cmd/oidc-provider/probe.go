package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/config"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
	"oidc-provider/internal/input"
)

// probeCommand asks a running server for its health.
type probeCommand struct {
	adminListen, url string
	live             bool
	timeout          time.Duration
}

func newProbeCommand() *cobra.Command {
	var p probeCommand
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Ask a running server whether it is ready, or alive",
		Long: `Ask a running server whether it is ready, at /readyz of its admin address, or
alive, at /livez. Print one line that says why, and end with the exit status 0 or 1.
It is for health checks of containers that have no other program, and for scripts on
the same machine. It opens no store, and reads no configuration file: if that sets
adminListen, set --admin-listen to the same.

In a Dockerfile:

  HEALTHCHECK --interval=10s CMD ["/oidc-provider", "probe", "--live"]

Use --live where a failure restarts the server. A server that is not ready may wait
for something that a restart does not repair.`,
		Example: `  oidc-provider probe
  oidc-provider probe --live --timeout 1s
  oidc-provider probe --admin-listen :9090
  oidc-provider probe --url http://10.0.0.7:8081`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&p.adminListen, "admin-listen", config.DefaultAdminListen, "the `ADDRESS` that serve has as --admin-listen")
	flags.StringVar(&p.url, "url", "", "`URL` to which /readyz or /livez is added, instead of --admin-listen")
	flags.BoolVar(&p.live, "live", false, "ask /livez: whether the process works, in an outage elsewhere too")
	flags.DurationVar(&p.timeout, "timeout", 3*time.Second, "longest `DURATION` to wait for the answer")
	return cmd
}

func (p *probeCommand) run(cmd *cobra.Command) error {
	adminTyped := typed(cmd.Flags(), "admin-listen")
	switch {
	case p.timeout <= 0:
		return errors.New("--timeout must be more than 0")
	case adminTyped && typed(cmd.Flags(), "url"):
		return errors.New("--admin-listen and --url exclude each other")
	case adminTyped:
		p.url = ""
	}
	u, err := p.target()
	if err != nil {
		return err
	}
	verdict, path := "ready", "readyz"
	if p.live {
		verdict, path = "alive", "livez"
	}
	u = u.JoinPath(path)
	ctx, cancel := context.WithTimeout(cmd.Context(), p.timeout)
	defer cancel()
	if err := probe(ctx, *u); err != nil {
		return fmt.Errorf("not %s: %s: %w", verdict, u, err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s answers with HTTP status 200\n", verdict, u)
	return err
}

// target returns the URL of the admin address.
func (p *probeCommand) target() (*url.URL, error) {
	if p.url == "" {
		return adminURL(p.adminListen)
	}
	u, err := url.Parse(p.url)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" ||
		u.Fragment != "" {
		return nil, hint.Errorf("it looks like http://127.0.0.1:8081", "--url is not an http or https URL without user and query")
	}
	return u, nil
}

// adminURL returns the URL under which this machine reaches a server that listens
// on address. One that listens on all addresses also does on the loopback one.
func adminURL(address string) (*url.URL, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, hint.Errorf("it looks like 127.0.0.1:8081 or :8081", "--admin-listen: %q is not an address", address)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
	}
	return &url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}, nil
}

// maxReport is more than a server with many issuers answers, in bytes.
const maxReport = 1 << 20

// probe returns why u does not answer with 200 OK. No proxy is asked: a health check
// is for this server alone.
func probe(ctx context.Context, u url.URL) error {
	u.RawQuery = "verbose"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", httpclient.UserAgent)
	transport := httpclient.Transport(nil)
	transport.Proxy = nil
	resp, err := httpclient.New(transport).Do(req)
	if err != nil {
		return httpclient.Failure(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	report, err := input.ReadAtMost(resp.Body, maxReport)
	if err != nil {
		return fmt.Errorf("reading the answer: %w", httpclient.Failure(err))
	}
	if failed := failedChecks(string(report)); len(failed) > 0 {
		return errors.New(strings.Join(failed, "; "))
	}
	failure := &httpclient.StatusError{Code: resp.StatusCode}
	if to, err := resp.Location(); err == nil {
		failure.Host = to.Host
	}
	return failure
}

// failedChecks returns the checks that a report of /readyz?verbose says have failed.
func failedChecks(report string) (failed []string) {
	for line := range strings.Lines(report) {
		if check, ok := strings.CutPrefix(line, "[-]"); ok {
			failed = append(failed, strings.TrimSpace(check))
		}
	}
	return failed
}
