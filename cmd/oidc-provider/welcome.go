package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/discovery"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// welcome tells a person who has started the server what there is now and what
// to try next.
func (o *serveOptions) welcome(cmd *cobra.Command, issuer discovery.Issuer, admin string, r *rotation.Ring, created bool) {
	keys := o.store.Store
	if created {
		keys += "  (made just now)"
	}
	next := "not planned yet: the next key must be published first"
	now := r.At(time.Now())
	if w := r.Waiting(now); w != nil && len(w.Copies) > 0 {
		next = "not planned yet: it waits for " + strings.Join(waitsFor(w), ", ")
	}
	if standby := r.Standby(now); standby != nil && !standby.SignFrom.IsZero() {
		next = fmt.Sprintf("%s  (in %s)", formatTime(standby.SignFrom), roughly(standby.SignFrom.Sub(now)))
	}
	fmt.Fprintf(cmd.OutOrStdout(), `
Serving the issuer %s

  Configuration   %s
  Key set         %s
  Health          http://%s/readyz?verbose
  Keys            %s
  Next rotation   %s

`, issuer, issuer.ConfigurationURL(), issuer.JWKSURI(), admin, keys, next)
	if o.publishOnly {
		return
	}
	fmt.Fprintf(cmd.OutOrStdout(), `Try it, in another terminal:

  %s token%s --audience demo |
    %s verify --issuer %s --audience demo -

`, program(), storeArguments(cmd.Flags()), program(), issuer)
}

// welcomeAll is welcome for a configuration file.
func welcomeAll(cmd *cobra.Command, file string, s *server) {
	scheme := "https"
	if s.cfg.TLS == nil {
		scheme = "http"
	}
	fmt.Fprintf(cmd.OutOrStdout(), `
Serving the issuers of %s

  Documents   %s://%s, by the path of each issuer
  Issuers     http://%s/readyz?verbose
  What it is  %s config check %s

`, file, scheme, s.public.Addr(), s.admin.Addr(), program(), quote(file))
}

// storeArguments are the flags that lead another command to the same store.
func storeArguments(flags *pflag.FlagSet) (arguments string) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	addStoreFlags(own, new(store.Config))
	own.String("config", "", "")
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

// quote makes one word of a shell out of value.
func quote(value string) string {
	if !strings.ContainsAny(value, " '\"$\\") {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// roughly is a duration as people say it.
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
