package web

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A Check is one thing that readiness depends on.
type Check struct {
	Name string
	// Run returns what there is to say about it, and an error if it is not
	// well.
	Run func() (detail string, err error)
	// Advisory checks are shown and do not make the process unready.
	Advisory bool
}

// Admin answers the requests of those who run the server:
//
//	/livez    200 as long as the process answers at all
//	/readyz   200 if every check passes, else 503; ?verbose names them, and
//	          ?issuer=URL asks for one issuer alone
//	/metrics  for Prometheus
//
// checks are asked for with each request, for one issuer or, if that is "", for
// all.
func Admin(checks func(issuer string) []Check, metrics prometheus.Gatherer, log *slog.Logger) http.Handler {
	e := newEcho(log)
	get := func(path string, h echo.HandlerFunc) { e.Match([]string{http.MethodGet, http.MethodHead}, path, h) }
	get("/livez", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	get("/readyz", func(c echo.Context) error {
		ready, report := runChecks(checks(c.QueryParam("issuer")))
		status := http.StatusOK
		if !ready {
			status = http.StatusServiceUnavailable
		}
		if c.QueryParams().Has("verbose") {
			return c.String(status, report)
		}
		if !ready {
			return c.String(status, "not ready: /readyz?verbose tells why\n")
		}
		return c.String(status, "ok\n")
	})
	get("/metrics", echo.WrapHandler(promhttp.HandlerFor(metrics, promhttp.HandlerOpts{})))
	return e
}

// runChecks reports in the form that kube-apiserver uses.
func runChecks(checks []Check) (ready bool, report string) {
	var lines strings.Builder
	ready = true
	for _, check := range checks {
		switch detail, err := check.Run(); {
		case err == nil:
			fmt.Fprintf(&lines, "[+]%s ok: %s\n", check.Name, detail)
		case check.Advisory:
			fmt.Fprintf(&lines, "[!]%s: %v\n", check.Name, err)
		default:
			ready = false
			fmt.Fprintf(&lines, "[-]%s failed: %v\n", check.Name, err)
		}
	}
	verdict := "ready"
	if !ready {
		verdict = "not ready"
	}
	return ready, lines.String() + verdict + "\n"
}
