package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"oidc-provider/internal/check"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
)

// askFlags say how to ask a live issuer.
type askFlags struct {
	caFile       string
	connectTo    []string
	allowPrivate bool
	timeout      time.Duration
	publishAhead time.Duration
}

func (a *askFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&a.caFile, "ca-file", "",
		"PEM `FILE` with the private CA of the issuer's certificates; public clouds do not trust private CAs")
	flags.StringArrayVar(&a.connectTo, "connect-to", nil, "`HOST:PORT:ADDRESS:PORT`: connect to this IP address and port "+
		"instead of asking DNS for HOST; may be given several times, also for one HOST")
	flags.BoolVar(&a.allowPrivate, "allow-private", false,
		"connect to a host that the discovery document names also if it has a private address")
	flags.DurationVar(&a.timeout, "timeout", 5*time.Second, "longest `DURATION` of a request; AWS STS waits 5s")
	flags.DurationVar(&a.publishAhead, "publish-ahead", 24*time.Hour,
		"the `DURATION` for which the issuer publishes a key before it signs")
}

func (a *askFlags) options(issuer string) (check.Options, error) {
	o := check.Options{
		Issuer: issuer, Timeout: a.timeout, PublishAhead: a.publishAhead, ConnectTo: map[string][]string{},
		AllowPrivate: a.allowPrivate,
	}
	if a.timeout <= 0 || a.publishAhead <= 0 {
		return o, errors.New("--timeout and --publish-ahead must be more than 0")
	}
	for _, raw := range a.connectTo {
		from, to, err := parseConnectTo(raw)
		if err != nil {
			return o, err
		}
		o.ConnectTo[from] = append(o.ConnectTo[from], to)
	}
	roots, err := httpclient.CAPool(a.caFile)
	if err != nil {
		return o, fmt.Errorf("--ca-file: %w", err)
	}
	o.Roots = roots
	return o, nil
}

// quietHTTP keeps off stderr what net/http logs about servers with broken HTTP/2: a
// line for every frame, without an end. Their answers are judged anyway.
func quietHTTP() { log.SetOutput(io.Discard) }

// runCheck is [check.Run] for a command.
func runCheck(ctx context.Context, o check.Options) (*check.Report, error) {
	quietHTTP()
	report, err := check.Run(ctx, o)
	return nameOptions(report), err
}

// nameOptions puts the names of flags into the advice of a report.
func nameOptions(report *check.Report) *check.Report {
	if report == nil {
		return nil
	}
	for i := range report.Results {
		r := &report.Results[i]
		r.Do = hint.Name(r.Do, flagName)
	}
	for i := range report.RelyingParties {
		v := &report.RelyingParties[i]
		v.Do = hint.Name(v.Do, flagName)
	}
	return report
}

var connectTo = regexp.MustCompile(`^(\[[^\]]+\]|[^:\[\]]+):(\d{1,5}):(.+)$`)

// parseConnectTo parses HOST:PORT:ADDRESS:PORT. IPv6 addresses are in brackets.
func parseConnectTo(raw string) (from, to string, err error) {
	parts := connectTo.FindStringSubmatch(raw)
	if parts != nil {
		_, err = netip.ParseAddrPort(parts[3])
	}
	if parts == nil || err != nil {
		return "", "", fmt.Errorf("--connect-to %q: want HOST:PORT:ADDRESS:PORT, like "+
			"oidc.example.com:443:192.0.2.7:8443", raw)
	}
	return net.JoinHostPort(strings.ToLower(strings.Trim(parts[1], "[]")), parts[2]), parts[3], nil
}
