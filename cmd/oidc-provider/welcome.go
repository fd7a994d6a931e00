package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/discovery"
	"oidc-provider/internal/config"
	"oidc-provider/internal/describe"
	"oidc-provider/internal/fleet"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// welcome prints what the server does and what to try next.
func (o *serveOptions) welcome(cmd *cobra.Command, f *fleet.Fleet, r *rotation.Ring, created bool) {
	keys := o.managed.Store
	if created {
		keys += "  (just created)"
	}
	next := "not planned yet: the next key must be published first"
	now := r.At(time.Now())
	if w := r.Waiting(now); w != nil && len(w.Copies) > 0 {
		next = "not planned yet: it waits for " + strings.Join(describe.WaitsFor(w), ", ")
	}
	if standby := r.Standby(now); standby != nil && !standby.SignFrom.IsZero() {
		next = fmt.Sprintf("%s  (in %s)", describe.Time(standby.SignFrom), roughly(standby.SignFrom.Sub(now)))
	}
	issuer, _ := discovery.ParseIssuer(r.Issuer) // the ring has checked it
	fmt.Fprintf(cmd.OutOrStdout(), `
Serving the issuer %s

  Discovery       %s
  Key set         %s
  Health          http://%s/readyz?verbose
  Keys            %s
  Next rotation   %s

`, issuer, issuer.DiscoveryURL(), issuer.JWKSURI(), f.AdminAddr(), keys, next)
	if o.managed.PublishOnly {
		return
	}
	fmt.Fprintf(cmd.OutOrStdout(), `Try it, in another terminal:

  %s token%s --audience demo |
    %s verify --issuer %s --audience demo -

`, program(), storeArguments(cmd.Flags()), program(), issuer)
}

// welcomeAll is welcome for a configuration file.
func (o *serveOptions) welcomeAll(cmd *cobra.Command, f *fleet.Fleet, settings *config.Config) {
	scheme := "https"
	if settings.TLS == nil {
		scheme = "http"
	}
	fmt.Fprintf(cmd.OutOrStdout(), `
Serving the issuers of %s

  Documents   %s://%s, by the path of each issuer
  Health      http://%s/readyz?verbose
  Details     %s config check %s

`, o.file, scheme, f.PublicAddr(), f.AdminAddr(), program(), quote(o.file))
}

// storeArguments returns the flags that lead another command to the same store.
func storeArguments(flags *pflag.FlagSet) (arguments string) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	addStoreFlags(own, new(store.Config))
	own.String("config", "", "")
	if typed(flags, "config") {
		own.String("issuer", "", "")
	}
	own.VisitAll(func(f *pflag.Flag) {
		given := flags.Lookup(f.Name)
		if given == nil || !given.Changed || given.Value.String() == f.DefValue {
			return
		}
		values := []string{given.Value.String()}
		if list, ok := given.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			arguments += " --" + f.Name + " " + quote(value)
		}
	})
	return arguments
}

// quote returns value as one word of a shell.
func quote(value string) string {
	if !strings.ContainsAny(value, " '\"$\\") {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// roughly returns a duration in words.
func roughly(d time.Duration) string {
	if days := int(d.Round(time.Hour) / (24 * time.Hour)); days >= 2 {
		return fmt.Sprintf("%d days", days)
	}
	return d.Round(time.Second).String()
}

// program is how this program is called here, for commands to copy.
func program() string {
	path, err := os.Executable()
	if err == nil && strings.Contains(path, "go-build") {
		return "go run ./cmd/oidc-provider"
	}
	return "oidc-provider"
}
