package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"oidc-provider/internal/check"
)

// askFlags say how a live issuer is asked.
type askFlags struct {
	caFile       string
	connectTo    []string
	timeout      time.Duration
	publishAhead time.Duration
}

func (a *askFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&a.caFile, "ca-file", "", "PEM file of the private CA that the issuer's certificates are from; public clouds do not trust such")
	flags.StringArrayVar(&a.connectTo, "connect-to", nil, "HOST:PORT:ADDRESS:PORT: connect to this IP address and port instead of asking DNS for HOST; may be given several times, also for one HOST")
	flags.DurationVar(&a.timeout, "timeout", 5*time.Second, "longest time for a request; AWS STS waits 5s")
	flags.DurationVar(&a.publishAhead, "publish-ahead", 24*time.Hour, "how long the issuer publishes a key before it signs")
}

func (a *askFlags) options(issuer string) (check.Options, error) {
	o := check.Options{Issuer: issuer, Timeout: a.timeout, PublishAhead: a.publishAhead, ConnectTo: map[string][]string{}}
	if a.timeout <= 0 || a.publishAhead <= 0 {
		return o, fmt.Errorf("--timeout and --publish-ahead must be more than 0")
	}
	for _, raw := range a.connectTo {
		from, to, err := parseConnectTo(raw)
		if err != nil {
			return o, err
		}
		o.ConnectTo[from] = append(o.ConnectTo[from], to)
	}
	var err error
	o.Roots, err = readRoots(a.caFile)
	return o, err
}

// readRoots is the CA in a PEM file, nil for the system's if there is none.
func readRoots(name string) (*x509.CertPool, error) {
	if name == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca-file %s: no PEM certificate in it", name)
	}
	return pool, nil
}

// runCheck is [check.Run] for a command. It keeps off stderr what net/http logs
// of servers that speak no proper HTTP/2: a line for every frame, for as long as
// they like. Their answers are judged anyway.
func runCheck(ctx context.Context, o check.Options) (*check.Report, error) {
	log.SetOutput(io.Discard)
	return check.Run(ctx, o)
}

var connectTo = regexp.MustCompile(`^(\[[^\]]+\]|[^:\[\]]+):(\d{1,5}):(.+)$`)

// parseConnectTo reads HOST:PORT:ADDRESS:PORT. IPv6 addresses are in brackets.
func parseConnectTo(raw string) (from, to string, err error) {
	parts := connectTo.FindStringSubmatch(raw)
	if parts != nil {
		_, err = netip.ParseAddrPort(parts[3])
	}
	if parts == nil || err != nil {
		return "", "", fmt.Errorf("--connect-to %q: want HOST:PORT:ADDRESS:PORT, like oidc.example.com:443:192.0.2.7:8443", raw)
	}
	return net.JoinHostPort(strings.ToLower(strings.Trim(parts[1], "[]")), parts[2]), parts[3], nil
}
