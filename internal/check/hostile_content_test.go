package check_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/internal/check"
)

// A server that is sound at first, and hangs then.
func TestAnswersAndThenHangs(t *testing.T) {
	for _, after := range []int64{1, 5, 8} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var n atomic.Int64
			r.before = func(_ http.ResponseWriter, req *http.Request) bool {
				if n.Add(1) <= after {
					return false
				}
				<-req.Context().Done()
				return true
			}
			r.options.ConnectTo = map[string][]string{"oidc.example.com:443": {r.serve()}}
			if report := survive(t, r); report.Count(check.Fail) == 0 {
				t.Error("nothing is wrong with it")
			}
		})
	}
}

// Who is not interested any more waits for nobody, and leaves nothing behind.
func TestRunEndsWithItsContext(t *testing.T) {
	h := stranger(hang).serve(t, newRig(t).tls)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := check.Run(ctx, check.Options{Issuer: issuer, Timeout: time.Hour, ConnectTo: map[string][]string{"oidc.example.com:443": h.everyWay()}})
		done <- err
	}()
	for h.open.Load() < 4 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
	h.mustBeLeft(t)
}

// Clients of HTTP/1.0 are bounded by themselves.
func TestHTTP10IsBounded(t *testing.T) {
	for name, answer := range map[string]stranger{
		"headers":  say("HTTP/1.0 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 512<<10) + "\r\n{}"),
		"a header": say("HTTP/1.0 200 OK\r\nX-A: " + strings.Repeat("b", 4<<20) + "\r\n\r\n{}"),
		"a body":   say("HTTP/1.0 200 OK\r\n\r\n" + strings.Repeat("[", 8<<20)),
		"no end":   func(c net.Conn) { flood(c, "HTTP/1.0 200 OK\r\n\r\n", strings.Repeat("[", 4096)) },
		"nothing":  hang,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.before = func(w http.ResponseWriter, req *http.Request) bool {
				if req.ProtoMajor != 1 || req.ProtoMinor != 0 {
					return false
				}
				c, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return true
				}
				defer c.Close()
				answer(c)
				return true
			}
			r.options.ConnectTo = map[string][]string{"oidc.example.com:443": {r.serve()}}
			report := survive(t, r)
			if report.Seen.KeySet.HTTP10 != nil && report.Count(check.Warn) == 0 {
				t.Error("nothing is wrong with it")
			}
		})
	}
}

// Chains of certificates are bounded by the size of a TLS message.
func TestLongChains(t *testing.T) {
	for n, want := range map[int]string{200: "", 2000: "discovery/answer"} {
		r := newRig(t)
		r.leaf(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: strings.Repeat("x", 60)} })
		c := &r.tls.Certificates[0]
		c.Certificate = append(c.Certificate, slices.Repeat([][]byte{intermediate.cert.Raw}, n)...)
		report, err := r.check()
		if err != nil {
			t.Fatal(err)
		}
		bounded(t, report)
		if first := report.First("aws"); first != nil && first.Check != want || first == nil && want != "" {
			t.Errorf("%d certificates: got %+v", n, first)
		}
	}
}

// Wherever a server points, nobody goes there.
func TestFollowsNothing(t *testing.T) {
	trap := stranger(hang).serve(t, nil)
	_, port, _ := net.SplitHostPort(trap.address)
	var places []string
	for _, scheme := range []string{"http", "https", "ftp", "ws", "HTTP"} {
		for _, host := range []string{"elsewhere.example.com", "127.0.0.1:" + port, "localhost:" + port, "oidc.example.com:" + port} {
			places = append(places, scheme+"://"+host+"/keys")
		}
	}
	places = append(places, "//"+trap.address+"/keys", "file:///etc/passwd", "file://"+trap.address+"/keys", "data:application/json,{}",
		"https://[::ffff:127.0.0.1]:"+port, "https://0.0.0.0:"+port, "https://[::]:"+port, "https://169.254.169.254/latest/meta-data", "https://[fe80::1%25lo]:"+port,
		"gopher://"+trap.address, "unix:/run/x.sock", "//", "\x1b[2J", "https:"+trap.address, "")
	check := func(t *testing.T, plant func(*rig)) *check.Report {
		r := newRig(t)
		plant(r)
		before := r.before
		r.before = func(w http.ResponseWriter, req *http.Request) bool {
			if path := req.URL.Path; path != discovery.WellKnown && path != discovery.JWKSPath {
				t.Errorf("somebody came for %s", path)
			}
			return before != nil && before(w, req)
		}
		r.options.ConnectTo = map[string][]string{
			"elsewhere.example.com:443": {trap.address}, "elsewhere.example.com:80": {trap.address},
			"oidc.example.com:80": {trap.address}, "oidc.example.com:" + port: {trap.address},
			"oidc.example.com:443": {r.serve()},
		}
		report := survive(t, r)
		if n := trap.came.Load(); n > 0 {
			t.Errorf("somebody went there, %d times", n)
			trap.came.Store(0)
		}
		return report
	}
	for i, status := range []int{300, 301, 302, 303, 305, 307, 308, 401, 407, 200} {
		for _, path := range []string{discovery.WellKnown, discovery.JWKSPath} {
			t.Run(fmt.Sprint(status, path), func(t *testing.T) {
				report := check(t, func(r *rig) {
					var n atomic.Int64
					r.before = func(w http.ResponseWriter, req *http.Request) bool {
						if req.URL.Path != path {
							return false
						}
						to := places[(int(n.Add(1))+7*i)%len(places)]
						for name, value := range map[string]string{
							"Location": to, "Content-Location": to, "Refresh": "0; url=" + to, "Link": "<" + to + ">; rel=preload", "Alt-Svc": `h2="` + trap.address + `"`,
							"WWW-Authenticate": `Bearer realm="` + to + `"`, "Proxy-Authenticate": "Basic", "Content-Type": "application/json",
						} {
							w.Header().Set(name, value)
						}
						w.WriteHeader(status)
						io.WriteString(w, `<meta http-equiv="refresh" content="0; url=`+to+`">`)
						return true
					}
				})
				if report.First("aws") == nil {
					t.Error("nothing is wrong with it")
				}
			})
		}
	}
	for _, to := range places {
		if strings.HasPrefix(to, "https://elsewhere") || strings.HasPrefix(to, "https://oidc.") {
			continue // that is where keys may be
		}
		t.Run("jwks_uri "+to, func(t *testing.T) {
			report := check(t, func(r *rig) { r.metadata["jwks_uri"] = to })
			if n := len(report.Seen.KeySet.Answers); n > 0 {
				t.Errorf("it was asked for keys, %d times", n)
			}
			if report.First("vault") == nil {
				t.Error("nothing is wrong with it")
			}
		})
	}
}

// Neither many keys nor deep ones are a problem.
func TestKeySetsWithoutSense(t *testing.T) {
	for name, text := range map[string]string{
		"100000 keys of nothing": `{"keys":[{}` + strings.Repeat(`,{}`, 100_000) + `]}`,
		"60000 keys":             `{"keys":[{"kty":"RSA"}` + strings.Repeat(`,{"kty":"RSA"}`, 60_000) + `]}`,
		"100000 numbers":         `{"keys":[0` + strings.Repeat(`,1`, 100_000) + `]}`,
		"100000 members":         `{"keys":[],"a":0` + strings.Repeat(`,"a":0`, 100_000) + `}`,
		"a deep array":           `{"keys":` + strings.Repeat(`[`, 500_000) + strings.Repeat(`]`, 500_000) + `}`,
		"a deep object":          `{"keys":[` + strings.Repeat(`{"kty":`, 90_000) + `1` + strings.Repeat(`}`, 90_000) + `]}`,
		"9000 levels":            `{"keys":[` + strings.Repeat(`{"kty":`, 9_000) + `1` + strings.Repeat(`}`, 9_000) + `]}`,
		"no end":                 `{"keys":` + strings.Repeat(`[`, 900_000),
		"a long kid":             `{"keys":[{"kid":"` + strings.Repeat("k", 1_000_000) + `"}]}`,
		"a modulus of 700 KiB":   `{"keys":[{"kty":"RSA","e":"AQAB","kid":"k","n":"` + strings.Repeat("_", 1_000_000) + `"}]}`,
		"an exponent of 700 KiB": `{"keys":[{"kty":"RSA","n":"AQAB","kid":"k","e":"` + strings.Repeat("_", 1_000_000) + `"}]}`,
		"a large coordinate":     `{"keys":[{"kty":"EC","crv":"P-256","y":"AQAB","kid":"k","x":"` + strings.Repeat("_", 1_000_000) + `"}]}`,
		"members of every type":  everyType(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.keySet.body = []byte(text)
			r.options.ConnectTo = map[string][]string{"oidc.example.com:443": {r.serve()}}
			report := survive(t, r)
			if report.First("vault") == nil {
				t.Error("nothing is wrong with it")
			}
		})
	}
}

var types = []string{`null`, `true`, `7`, `-1e300`, `""`, `"\u0000"`, `[]`, `[[]]`, `["a"]`, `[7]`, `{}`, `{"a":{}}`}

// everyType is a key set in which every member is of every type once.
func everyType() string {
	var keys []string
	for _, member := range []string{"kty", "kid", "use", "alg", "crv", "n", "e", "x", "y", "d", "key_ops", "x5c", "x5t", "x5u", "oth"} {
		for _, value := range types {
			keys = append(keys, fmt.Sprintf(`{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"a",%q:%s}`, member, value), fmt.Sprintf(`{%q:%s}`, member, value))
		}
	}
	return `{"keys":[` + strings.Join(append(keys, types...), ",") + `]}`
}

func TestMetadataOfEveryType(t *testing.T) {
	r := newRig(t)
	var body atomic.Pointer[[]byte]
	r.before = func(w http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path != discovery.WellKnown {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(*body.Load())
		return true
	}
	r.options.ConnectTo, r.options.Tries = map[string][]string{"oidc.example.com:443": {r.serve()}}, 1
	try := func(text string) {
		data := []byte(text)
		body.Store(&data)
		if report := survive(t, r); report.First("vault") == nil {
			t.Errorf("nothing is wrong with %s", text)
		}
	}
	for _, value := range types {
		try(value)
		for _, member := range []string{"issuer", "jwks_uri", "id_token_signing_alg_values_supported", "response_types_supported", "subject_types_supported"} {
			data, err := json.Marshal(r.metadata)
			if err != nil {
				t.Fatal(err)
			}
			var members map[string]json.RawMessage
			if err := json.Unmarshal(data, &members); err != nil {
				t.Fatal(err)
			}
			members[member] = json.RawMessage(value)
			if data, err = json.Marshal(members); err != nil {
				t.Fatal(err)
			}
			if value == `["a"]` && member != "issuer" && member != "jwks_uri" && !strings.HasPrefix(member, "id_token") {
				continue // that is as it should be
			}
			try(string(data))
		}
	}
}

// evil is what no terminal should be sent: a title, colours, new lines, text
// from right to left, the eight-bit forms of the same, and no UTF-8.
const evil = "\x1b]0;owned\a\x1b[2J\x1b[31m\r\n\t\u202egnp.exe\u2066\u0085\u009b31m\u2028\ufeff\u200b\x00\x7f\xff\xfe"

// Whatever a server calls itself and its things, the report can be printed.
func TestReportsArePrintable(t *testing.T) {
	text := strings.ToValidUTF8(evil, "")
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(*rig){
		"issuer":     func(r *rig) { r.metadata["issuer"] = text },
		"jwks_uri":   func(r *rig) { r.metadata["jwks_uri"] = text },
		"algorithms": func(r *rig) { r.metadata["id_token_signing_alg_values_supported"] = []string{text, "none" + text} },
		"members":    func(r *rig) { r.metadata[text] = text; delete(r.metadata, "issuer") },
		"a member twice": func(r *rig) {
			r.configuration.body = []byte(`{` + string(quoted) + `:1,` + string(quoted) + `:2}`)
		},
		"no JSON": func(r *rig) { r.configuration.body, r.keySet.body = []byte("<"+evil), []byte(evil) },
		"the path of jwks_uri": func(r *rig) {
			r.metadata["jwks_uri"] = "https://oidc.example.com/\u202e\u2066" + discovery.JWKSPath
		},
		"the host of jwks_uri": func(r *rig) {
			r.metadata["jwks_uri"] = "https://\u202e\u2066.localhost/keys"
			r.options.Timeout = time.Second
		},
		"redirect": func(r *rig) {
			r.keySet.status = 302
			r.keySet.header.Set("Location", "https://oidc.example.com/\u202e")
		},
		"kid":       func(r *rig) { r.keys[0]["kid"] = text },
		"kid twice": func(r *rig) { r.keys[0]["kid"] = text; r.keys = append(r.keys, r.keys[0]) },
		"kty":       func(r *rig) { r.keys[0]["kty"], r.keys[0]["kid"] = text, nil },
		"crv":       func(r *rig) { r.keys[0] = map[string]any{"kty": "EC", "crv": text, "kid": text} },
		"use":       func(r *rig) { r.keys[0]["use"] = text },
		"alg":       func(r *rig) { r.keys[0]["alg"] = text },
		"n":         func(r *rig) { r.keys[0]["n"] = text },
		"certificate": func(r *rig) {
			r.leaf(func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = text, []string{"example.com"} })
		},
		"certificate of nobody": func(r *rig) {
			ca := newAuthority(text, nil)
			r.tls.Certificates[0] = ca.leaf(r, nil)
		},
		"certificate that ends": func(r *rig) {
			r.leaf(func(c *x509.Certificate) { c.Subject.CommonName, c.NotAfter = text, time.Now().Add(time.Hour) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			plant(r)
			f := r.forge()
			f.header["kid"], f.claims["iss"], f.claims["sub"], f.claims["aud"] = text, text, text, []string{text, text}
			r.options.Token, r.options.Tries = f.sign(t), 2
			report, err := r.check()
			if err != nil {
				t.Fatal(err)
			}
			printable(t, report)
		})
	}
}

// The same of headers, which servers in Go do not send so.
func TestHeadersArePrintable(t *testing.T) {
	one := "\u202egnp.exe\u2066\u0085\u009b31m\u2028\ufeff\u200b\xff" // Go takes no control characters
	for _, header := range []string{
		"Content-Type: application/json; a=\"" + one + "\"", "Content-Type: " + one, "Cache-Control: max-age=" + one, "Cache-Control: " + one,
		"Expires: " + one, "Content-Encoding: " + one, "Transfer-Encoding: " + one, "Location: " + one, "Location: " + evil, one + ": x",
	} {
		for _, status := range []string{"200 OK", "302 Found", "404 " + one} {
			r := newRig(t)
			body := `{"issuer":"https://oidc.example.com","jwks_uri":"https://oidc.example.com/keys"}`
			h := stranger(say("HTTP/1.1 "+status+"\r\n"+header+"\r\nContent-Length: "+fmt.Sprint(len(body))+"\r\n\r\n"+body)).serve(t, &tls.Config{Certificates: r.tls.Certificates})
			r.options.ConnectTo, r.options.Tries = map[string][]string{"oidc.example.com:443": {h.address}}, 2
			printable(t, survive(t, r))
		}
	}
}
