package web

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/prometheus/client_golang/prometheus"
)

// Public answers the requests of relying parties: GET, HEAD and OPTIONS for the
// documents, 405 for other methods, 404 for other paths, and 503 for the paths of
// an issuer that has published nothing yet. It never redirects. The Host header
// selects an issuer, and never becomes part of a document.
func Public(site *Site, metrics prometheus.Registerer, log *slog.Logger) http.Handler {
	p := &public{site: site, counts: newCounts(metrics)}
	e := newEcho(log)
	// One handler for every method and path: which of them are valid depends on
	// the issuers, which change while the server runs.
	e.RouteNotFound("/*", p.serve)
	return e
}

// NotFound answers every request with 404.
func NotFound(log *slog.Logger) http.Handler { return newEcho(log) }

func newEcho(log *slog.Logger) *echo.Echo {
	e := echo.New()
	// A 404 without Cache-Control may be stored by caches, and could outlive the
	// moment when an issuer is added.
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		if !c.Response().Committed {
			c.Response().Header()["Cache-Control"] = noStore
		}
		e.DefaultHTTPErrorHandler(err, c)
	}
	e.Use(middleware.RecoverWithConfig(middleware.RecoverConfig{
		DisableStackAll: true,
		LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
			log.Error("panic while answering a request", "path", c.Request().URL.Path, "err", err, "stack", string(stack))
			return echo.ErrInternalServerError
		},
	}))
	return e
}

type public struct {
	site   *Site
	counts *counts
}

// Header values that no response changes.
var (
	anyOrigin      = []string{"*"}
	allowedMethods = []string{"GET, HEAD, OPTIONS"}
	noStore        = []string{"no-store"}
	preflightAge   = []string{"86400"}
	pagePolicy     = []string{"default-src 'none'; style-src 'unsafe-inline'"}
)

func (p *public) serve(c echo.Context) error {
	req, res := c.Request(), c.Response()
	docs, kind := p.site.find(req.Host, req.URL.Path)
	if docs == nil {
		p.counts.notFound.Inc()
		return echo.ErrNotFound
	}
	current := docs.current.Load()
	if current == nil {
		p.counts.unavailable.Inc()
		res.Header().Set("Retry-After", "1")
		return echo.ErrServiceUnavailable
	}
	doc := current[kind]
	header := res.Header()
	header["Access-Control-Allow-Origin"] = anyOrigin
	status := http.StatusOK
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		header["Etag"] = doc.etagHeader
		header["Cache-Control"] = doc.cacheControl
		if matches(req.Header["If-None-Match"], doc.etag) {
			status = http.StatusNotModified
			break
		}
		header["Content-Type"] = doc.contentType
		header["Content-Length"] = doc.contentLength
		if kind == page {
			header["Content-Security-Policy"] = pagePolicy
		}
	case http.MethodOptions:
		status = http.StatusNoContent
		header["Allow"] = allowedMethods
		header["Access-Control-Allow-Methods"] = allowedMethods
		header["Access-Control-Allow-Headers"] = anyOrigin
		header["Access-Control-Max-Age"] = preflightAge
	default:
		p.counts.add(kind, http.StatusMethodNotAllowed)
		header["Allow"] = allowedMethods
		return echo.ErrMethodNotAllowed
	}
	p.counts.add(kind, status)
	res.WriteHeader(status)
	if status != http.StatusOK || req.Method == http.MethodHead {
		return nil
	}
	_, err := res.Write(doc.body)
	return err
}

// matches implements If-None-Match (RFC 9110, section 13.1.2): a list of
// entity tags, compared weakly, or a star.
func matches(fields []string, etag string) bool {
	for _, field := range fields {
		for field != "" {
			var tag string
			tag, field, _ = strings.Cut(field, ",")
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}
