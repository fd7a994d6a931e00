package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/rotation"
)

// welcome tells a person who has started the server what there is now and what
// to try next.
func (o *serveOptions) welcome(w io.Writer, issuer discovery.Issuer, admin string, r *rotation.Ring, created bool) {
	keys := o.store.spec
	if created {
		keys += "  (made just now)"
	}
	next := "not planned yet: the next key must be published first"
	now := r.At(time.Now())
	if standby := r.Standby(now); standby != nil && !standby.SignFrom.IsZero() {
		next = fmt.Sprintf("%s  (in %s)", formatTime(standby.SignFrom), roughly(standby.SignFrom.Sub(now)))
	}
	store := ""
	if o.store.spec != defaultStore {
		store = " --store " + o.store.spec
		if strings.ContainsAny(o.store.spec, " '\"$\\") {
			store = " --store '" + strings.ReplaceAll(o.store.spec, "'", `'\''`) + "'"
		}
	}
	fmt.Fprintf(w, `
Serving the issuer %s

  Configuration   %s
  Key set         %s
  Health          http://%s/readyz?verbose
  Keys            %s
  Next rotation   %s

Try it, in another terminal:

  %s token%s --audience demo |
    %s verify --issuer %s --audience demo -

`, issuer, issuer.ConfigurationURL(), issuer.JWKSURI(), admin, keys, next, program(), store, program(), issuer)
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
