package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"oidc-provider/discovery"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

func generateEC(rotation.Policy) (*jwks.SigningKey, error) { return jwks.Generate(jose.ES256, 0) }

func newRing(t testing.TB, issuer string, p rotation.Policy) *rotation.Ring {
	t.Helper()
	r, err := rotation.New(issuer, p, time.Now(), generateEC)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newDocuments(t testing.TB, issuer string, p rotation.Policy) *web.Documents {
	t.Helper()
	parsed, err := discovery.ParseIssuer(issuer)
	if err != nil {
		t.Fatal(err)
	}
	docs := web.NewDocuments(web.DocumentsConfig{Issuer: parsed})
	if err := docs.Publish(context.Background(), rotation.NewView(newRing(t, issuer, p))); err != nil {
		t.Fatal(err)
	}
	return docs
}

// newSite has one issuer, which is found under any host.
func newSite(docs *web.Documents) *web.Site {
	return web.NewSite(web.SiteConfig{AnyHost: true}, docs.Slot())
}

func newPublic(t testing.TB, issuer string) (http.Handler, *prometheus.Registry) {
	t.Helper()
	metrics := prometheus.NewRegistry()
	return web.Public(newSite(newDocuments(t, issuer, rotation.Policy{})), metrics, slog.New(slog.DiscardHandler)), metrics
}

func do(t testing.TB, h http.Handler, method, path string, header ...string) *http.Response {
	t.Helper()
	req := httptest.NewRequest(method, "http://somebody.else.test"+path, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec.Result()
}

func body(t testing.TB, resp *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const (
	configuration = "/.well-known/openid-configuration"
	keySet        = "/openid/v1/jwks"
)

func TestContract(t *testing.T) {
	h, _ := newPublic(t, "https://oidc.example.com")
	for path, want := range map[string]http.Header{
		configuration: {"Content-Type": {"application/json"}, "Cache-Control": {"public, max-age=3600"}},
		keySet:        {"Content-Type": {"application/jwk-set+json"}, "Cache-Control": {"public, max-age=300"}},
	} {
		get := do(t, h, http.MethodGet, path)
		text := body(t, get)
		etag := get.Header.Get("ETag")
		want["Access-Control-Allow-Origin"] = []string{"*"}
		want["Content-Length"] = []string{fmt.Sprint(len(text))}
		want["Etag"] = []string{etag}
		if diff := cmp.Diff(want, get.Header); diff != "" || get.StatusCode != 200 {
			t.Errorf("GET %s: %s, header (-want +got):\n%s", path, get.Status, diff)
		}
		if len(etag) < 10 || etag[0] != '"' || !json.Valid([]byte(text)) {
			t.Errorf("GET %s: ETag %s, body %s", path, etag, text)
		}

		head := do(t, h, http.MethodHead, path)
		if diff := cmp.Diff(get.Header, head.Header); diff != "" || head.StatusCode != 200 || body(t, head) != "" {
			t.Errorf("HEAD %s: %s, header (-GET +HEAD):\n%s", path, head.Status, diff)
		}

		for _, header := range []string{etag, "W/" + etag, `"other", ` + etag, `"a,b",` + etag + `,"c"`, "*"} {
			resp := do(t, h, http.MethodGet, path, "If-None-Match", header)
			if resp.StatusCode != 304 || body(t, resp) != "" || resp.Header.Get("ETag") != etag || resp.Header.Get("Cache-Control") == "" {
				t.Errorf("If-None-Match %s: %s, %v", header, resp.Status, resp.Header)
			}
		}
		for _, header := range []string{`"other"`, strings.Trim(etag, `"`), "", ",", `W/"other"`} {
			if resp := do(t, h, http.MethodGet, path, "If-None-Match", header); resp.StatusCode != 200 {
				t.Errorf("If-None-Match %s: %s", header, resp.Status)
			}
		}

		options := do(t, h, http.MethodOptions, path, "Origin", "https://app.example", "Access-Control-Request-Method", "GET")
		if options.StatusCode != 204 || options.Header.Get("Access-Control-Allow-Origin") != "*" ||
			options.Header.Get("Access-Control-Allow-Methods") != "GET, HEAD, OPTIONS" || body(t, options) != "" {
			t.Errorf("OPTIONS %s: %s, %v", path, options.Status, options.Header)
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "FOO"} {
			resp := do(t, h, method, path)
			if resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD, OPTIONS" || !notStored(resp) {
				t.Errorf("%s %s: %s, %v", method, path, resp.Status, resp.Header)
			}
		}
	}
	for _, path := range []string{"/x", "/openid/v1/jwks/", "/openid/v1", configuration + "/", "/..", "/%2e%2e/", configuration + "/x"} {
		for _, method := range []string{"GET", "POST", "OPTIONS", "FOO"} {
			if resp := do(t, h, method, path); resp.StatusCode != 404 || !notStored(resp) {
				t.Errorf("%s %s: %s, %v", method, path, resp.Status, resp.Header)
			}
		}
	}
}

func notStored(resp *http.Response) bool { return resp.Header.Get("Cache-Control") == "no-store" }

func TestPathsAreAnsweredAsTheyCome(t *testing.T) {
	for issuer, paths := range map[string]map[string]string{
		"https://oidc.example.com":      {"/": configuration, "//": "/" + configuration},
		"https://oidc.example.com/c/1":  {"a": "/c/1" + configuration, "b": "/c/1/" + configuration, "c": configuration + "/c/1", "page": "/c/1"},
		"https://oidc.example.com/c/1/": {"a": "/c/1" + configuration, "b": "/c/1/" + configuration, "c": configuration + "/c/1", "d": configuration + "/c/1/"},
	} {
		h, _ := newPublic(t, issuer)
		for name, path := range paths {
			resp := do(t, h, http.MethodGet, path)
			if resp.StatusCode != 200 {
				t.Errorf("%s: GET %s: %s", issuer, path, resp.Status)
			}
			if text := body(t, resp); name != "page" && !strings.Contains(text, fmt.Sprintf("%q:%q", "issuer", issuer)) {
				t.Errorf("%s: GET %s answers %s", issuer, path, text)
			}
		}
	}
}

// What the client says of itself changes nothing.
func TestIssuerComesFromTheConfiguration(t *testing.T) {
	h, _ := newPublic(t, "https://oidc.example.com")
	want := body(t, do(t, h, http.MethodGet, configuration))
	got := body(t, do(t, h, http.MethodGet, configuration, "Host", "evil.test", "X-Forwarded-Host", "evil.test",
		"X-Forwarded-Proto", "http", "Forwarded", "host=evil.test", "X-Forwarded-Prefix", "/evil"))
	if got != want || strings.Contains(got, "else.test") {
		t.Errorf("got %s", got)
	}
}

func TestKeySetHasExactlyThePublicMembers(t *testing.T) {
	h, _ := newPublic(t, "https://oidc.example.com")
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal([]byte(body(t, do(t, h, http.MethodGet, keySet))), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 2 {
		t.Fatalf("%d keys, want the active one and the next", len(set.Keys))
	}
	for _, k := range set.Keys {
		var members []string
		for name := range k {
			members = append(members, name)
		}
		slices.Sort(members)
		if diff := cmp.Diff([]string{"alg", "crv", "kid", "kty", "use", "x", "y"}, members); diff != "" {
			t.Errorf("members (-want +got):\n%s", diff)
		}
	}
}

func TestMaxAgeStaysBelowPublishAhead(t *testing.T) {
	for _, tt := range []struct {
		ahead, skew time.Duration
		jwks, conf  string
	}{
		{24 * time.Hour, 10 * time.Minute, "300", "3600"},
		{time.Hour, 10 * time.Minute, "300", "1200"},
		{6 * time.Second, time.Second, "2", "2"},
		{20 * time.Second, 10 * time.Minute, "5", "5"},
	} {
		docs := newDocuments(t, "https://oidc.example.com", rotation.Policy{
			PublishAhead: rotation.Duration(tt.ahead), ClockSkew: rotation.Duration(tt.skew),
		})
		h := web.Public(newSite(docs), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		for path, want := range map[string]string{keySet: tt.jwks, configuration: tt.conf} {
			if got := do(t, h, http.MethodGet, path).Header.Get("Cache-Control"); got != "public, max-age="+want {
				t.Errorf("ahead %v, skew %v: %s of %s, want %s", tt.ahead, tt.skew, got, path, want)
			}
		}
	}
}

func TestPage(t *testing.T) {
	h, _ := newPublic(t, "https://oidc.example.com")
	resp := do(t, h, http.MethodGet, "/")
	text := body(t, resp)
	if resp.StatusCode != 200 || !strings.Contains(text, "https://oidc.example.com/openid/v1/jwks") {
		t.Errorf("%s\n%s", resp.Status, text)
	}
	if resp.Header.Get("Content-Security-Policy") == "" {
		t.Error("the page has no Content-Security-Policy")
	}
}

func TestNothingPublishedYet(t *testing.T) {
	issuer, err := discovery.ParseIssuer("https://oidc.example.com")
	if err != nil {
		t.Fatal(err)
	}
	site := newSite(web.NewDocuments(web.DocumentsConfig{Issuer: issuer}))
	h := web.Public(site, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if resp := do(t, h, http.MethodGet, keySet); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !notStored(resp) {
		t.Errorf("got %s, %v", resp.Status, resp.Header)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	h, metrics := newPublic(t, "https://oidc.example.com")
	etag := do(t, h, http.MethodGet, keySet).Header.Get("ETag")
	do(t, h, http.MethodGet, keySet, "If-None-Match", etag)
	do(t, h, http.MethodPost, configuration)
	do(t, h, http.MethodGet, "/nowhere")
	want := `
# HELP oidc_provider_http_requests_total Requests of relying parties, by document and status code.
# TYPE oidc_provider_http_requests_total counter
`
	counted := map[string]int{"discovery 405": 1, "jwks 200": 1, "jwks 304": 1, "none 404": 1}
	for _, document := range []string{"discovery", "jwks", "none", "page"} {
		for _, code := range []string{"200", "204", "304", "404", "405", "503"} {
			if (document == "none") == (code == "404" || code == "503") {
				want += fmt.Sprintf("oidc_provider_http_requests_total{code=%q,document=%q} %d\n", code, document, counted[document+" "+code])
			}
		}
	}
	if err := testutil.GatherAndCompare(metrics, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// Over a real connection: HTTP/1.0, no chunking, nothing compressed.
func TestOldClients(t *testing.T) {
	h, _ := newPublic(t, "https://oidc.example.com")
	s := httptest.NewServer(h)
	defer s.Close()
	for _, request := range []string{
		"GET " + keySet + " HTTP/1.0\r\n\r\n",
		"GET /" + configuration + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: gzip, br\r\n\r\n",
		"GET http://other.test" + keySet + " HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, request)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		text := body(t, resp)
		conn.Close()
		if resp.StatusCode != 200 || len(resp.TransferEncoding) > 0 || resp.ContentLength != int64(len(text)) || !json.Valid([]byte(text)) ||
			resp.Header.Get("Content-Encoding") != "" || resp.Header.Get("Last-Modified") != "" {
			t.Errorf("%q: %s %v\n%s", request, resp.Status, resp.Header, text)
		}
	}
}
