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

// A Check is one condition of readiness.
type Check struct {
	Name string
	// Run returns details, or an error that says why the check fails.
	Run func() (detail string, err error)
	// Advisory checks are listed, and do not make the process unready.
	Advisory bool
}

// maxScrapes bounds the requests for metrics at a time: with many issuers each
// takes megabytes.
const maxScrapes = 3

// Admin answers the requests of the operator and of probes:
//
//	/livez    200 whenever the process can answer
//	/readyz   200 if every check passes, else 503; ?verbose lists the checks,
//	          and ?issuer=URL selects one issuer
//	/metrics  for Prometheus; at most maxScrapes at a time, others get 503
//
// No answer may be stored by caches.
//
// Each request to /readyz calls checks, with the URL of an issuer or, for all
// issuers, with "".
func Admin(checks func(issuer string) []Check, metrics prometheus.Gatherer, log *slog.Logger) http.Handler {
	e := newEcho(log)
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Response().Header()["Cache-Control"] = noStore
			return next(c)
		}
	})
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
			return c.String(status, "not ready: see /readyz?verbose\n")
		}
		return c.String(status, "ok\n")
	})
	get("/metrics", echo.WrapHandler(promhttp.HandlerFor(metrics, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})))
	return e
}

// runChecks reports one line per check, in the form that kube-apiserver uses.
func runChecks(checks []Check) (ready bool, report string) {
	var lines strings.Builder
	ready = true
	for _, check := range checks {
		switch detail, err := check.Run(); {
		case err == nil:
			fmt.Fprintf(&lines, "[+]%s ok: %s\n", check.Name, oneLine(detail))
		case check.Advisory:
			fmt.Fprintf(&lines, "[!]%s: %s\n", check.Name, oneLine(err.Error()))
		default:
			ready = false
			fmt.Fprintf(&lines, "[-]%s failed: %s\n", check.Name, oneLine(err.Error()))
		}
	}
	verdict := "ready"
	if !ready {
		verdict = "not ready"
	}
	return ready, lines.String() + verdict + "\n"
}

// oneLine joins the lines of text, which joined errors have, so that no text can
// pass for the line of a check.
func oneLine(text string) string {
	isBreak := func(r rune) bool { return strings.ContainsRune("\n\v\f\r\u0085\u2028\u2029", r) }
	return strings.Join(strings.FieldsFunc(text, isBreak), "; ")
}
