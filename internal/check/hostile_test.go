package check_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"oidc-provider/internal/check"
)

// A stranger does with a connection what it likes. It is closed afterwards.
type stranger func(net.Conn)

// Strangers that speak HTTP/1.1, or what looks like it.
var strangers = map[string]stranger{
	"says nothing":         hang,
	"closes at once":       func(net.Conn) {},
	"drips a header":       func(c net.Conn) { drip(c, "HTTP/1.1 200 OK\r\n", "X-A: b\r\n") },
	"drips a body":         func(c net.Conn) { drip(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", " ") },
	"drips a chunked body": func(c net.Conn) { drip(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n") },
	"endless status line":  func(c net.Conn) { flood(c, "HTTP/1.1 200 ", strings.Repeat("O", 4096)) },
	"endless headers":      func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\n", strings.Repeat("X-A: b\r\n", 512)) },
	"headers of 4 MiB":     say("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 512<<10) + "\r\n{}"),
	"a header of 4 MiB":    say("HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("b", 4<<20) + "\r\n\r\n{}"),
	"endless header":       func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\nX-A: ", strings.Repeat("b", 4096)) },
	"endless early hints":  func(c net.Conn) { flood(c, "", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n", 64)) },
	"drips early hints":    func(c net.Conn) { drip(c, "", "HTTP/1.1 102 Processing\r\n\r\n") },
	"endless body":         func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("[", 4096)) },
	"endless chunks":       func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n[\r\n") },
	"endless chunk extension": func(c net.Conn) {
		flood(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", strings.Repeat("x", 4096))
	},
	"endless trailer": func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X-A: b\r\n") },
	"a chunk without end": func(c net.Conn) {
		drip(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", " ")
	},
	"a chunk of no number":      say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n"),
	"two transfer codings":      say("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 2\r\n\r\n{}"),
	"Content-Length too large":  say("HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{}"),
	"Content-Length too small":  say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}"),
	"Content-Length of 8 EiB":   func(c net.Conn) { drip(c, "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n", " ") },
	"Content-Length below zero": say("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"),
	"two Content-Lengths":       say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
	"no HTTP":                   say("SSH-2.0-OpenSSH_10.0\r\n"),
	"nothing but zeros":         func(c net.Conn) { flood(c, "", strings.Repeat("\x00", 4096)) },
	"another protocol":          say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}"),
	"another protocol for ever": func(c net.Conn) {
		drip(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", " ")
	},
	"a status out of range": say("HTTP/1.1 999 \x1b[31m\r\nContent-Length: 2\r\n\r\n{}"),
	"no status":             say("HTTP/1.1\r\n\r\n{}"),
	"gzip bomb":             func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", bomb) },
	"gzip of nothing": func(c net.Conn) {
		flood(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", strings.Repeat(packed(""), 64))
	},
	"gzip that is none": func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", "{}") },
	"gzip with a header that does not end": func(c net.Conn) {
		flood(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x00", strings.Repeat("name", 1024))
	},
}

// Strangers that have agreed to speak HTTP/2.
var framers = map[string]stranger{
	"says nothing":      hang,
	"no frames":         func(c net.Conn) { flood(c, "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") },
	"a frame of 16 MiB": func(c net.Conn) { flood(c, settings+"\xff\xff\xff\x00\x00\x00\x00\x00\x01", strings.Repeat("x", 4096)) },
	"endless settings":  func(c net.Conn) { flood(c, "", settings) },
	"endless pings":     func(c net.Conn) { flood(c, settings, frame(6, 0, 0, "12345678")) },
	"endless unknown":   func(c net.Conn) { flood(c, settings, frame(99, 0xff, 0, strings.Repeat("x", 100))) },
	"endless resets":    func(c net.Conn) { flood(c, settings, frame(3, 0, 1, "\x00\x00\x00\x08")) },
	"endless windows":   func(c net.Conn) { flood(c, settings, frame(8, 0, 0, "\x00\x00\x00\x01")) },
	"a window of 2 GiB": func(c net.Conn) { flood(c, settings, frame(8, 0, 0, "\x7f\xff\xff\xff")) },
	"endless headers": func(c net.Conn) {
		flood(c, settings+frame(1, 0, 1, "\x88"), frame(9, 0, 1, strings.Repeat("\x0f\x0d\x010", 100)))
	},
	"empty continuations": func(c net.Conn) { flood(c, settings+frame(1, 0, 1, "\x88"), frame(9, 0, 1, "")) },
	"a bomb of headers": func(c net.Conn) {
		flood(c, settings, frame(1, 4, 1, "\x88\x40\x01a\x7f\x81\x1e"+strings.Repeat("b", 285)+strings.Repeat("\xbe", 15000)))
	},
	"headers of no sense": func(c net.Conn) { flood(c, settings, frame(1, 4, 1, strings.Repeat("\xff", 100))) },
	"endless early hints": func(c net.Conn) { flood(c, settings, frame(1, 4, 1, "\x48\x03103")) },
	"endless data": func(c net.Conn) {
		flood(c, settings+frame(1, 4, 1, "\x88"), frame(0, 0, 1, strings.Repeat("[", 16000)))
	},
	"empty data":           func(c net.Conn) { flood(c, settings+frame(1, 4, 1, "\x88"), frame(0, 0, 1, "")) },
	"drips data":           func(c net.Conn) { drip(c, settings+frame(1, 4, 1, "\x88"), frame(0, 0, 1, " ")) },
	"data before headers":  func(c net.Conn) { flood(c, settings, frame(0, 0, 1, "{}")) },
	"data of no stream":    func(c net.Conn) { flood(c, settings, frame(0, 0, 0, "{}")) },
	"promises":             func(c net.Conn) { flood(c, settings, frame(5, 4, 1, "\x00\x00\x00\x02\x88")) },
	"goes away, and stays": func(c net.Conn) { flood(c, settings, frame(7, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x00")) },
	"headers, then nothing": func(c net.Conn) {
		io.WriteString(c, settings+frame(1, 4, 1, "\x88"))
		hang(c)
	},
}

// Strangers that have their own idea of TLS.
var shakers = map[string]stranger{
	"says nothing":        hang,
	"closes at once":      func(net.Conn) {},
	"no TLS":              say("HTTP/1.1 400 Bad Request\r\n\r\n"),
	"drips a record":      func(c net.Conn) { drip(c, "\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", "x") },
	"endless records":     func(c net.Conn) { flood(c, "", "\x16\x03\x03\x00\x04\x02\x00\x00\x00") },
	"endless empty ones":  func(c net.Conn) { flood(c, "", "\x16\x03\x03\x00\x00") },
	"endless alerts":      func(c net.Conn) { flood(c, "", "\x15\x03\x03\x00\x02\x01\x5a") },
	"a record too large":  func(c net.Conn) { flood(c, "\x16\x03\x03\xff\xff", strings.Repeat("x", 4096)) },
	"a message too large": func(c net.Conn) { flood(c, "\x16\x03\x03\x40\x00\x02\xff\xff\xff", strings.Repeat("x", 4096)) },
	"refuses":             say("\x15\x03\x03\x00\x02\x02\x28"),
}

const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

func frame(kind, flags byte, stream uint32, payload string) string {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	head = append(head, flags)
	return string(binary.BigEndian.AppendUint32(head, stream)) + payload
}

func packed(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	return b.String()
}

// bomb is 16 MiB of white space.
var bomb = packed(strings.Repeat(" ", 16<<20))

// hang waits until the other side is gone.
func hang(c net.Conn) { io.Copy(io.Discard, c) }

func say(text string) stranger {
	return func(c net.Conn) {
		io.WriteString(c, text)
		c.SetReadDeadline(time.Now().Add(time.Second)) // so that it is not reset before it was read
		io.Copy(io.Discard, c)
	}
}

// drip says more and more, a little at a time, until nobody listens.
func drip(c net.Conn, first, more string) {
	repeat(c, first, more, 10*time.Millisecond)
}

// flood does so as fast as it can.
func flood(c net.Conn, first, more string) { repeat(c, first, more, 0) }

func repeat(c net.Conn, first, more string, pause time.Duration) {
	go io.Copy(io.Discard, c)
	_, err := io.WriteString(c, first)
	for ; err == nil; _, err = io.WriteString(c, more) {
		time.Sleep(pause)
	}
}

// A host is a stranger at an address. It counts connections.
type host struct {
	address    string
	came, open atomic.Int64
}

// serve listens for a stranger, behind TLS if there is a configuration.
func (s stranger) serve(t testing.TB, config *tls.Config) *host {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := &host{address: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.came.Add(1)
			h.open.Add(1)
			go func() {
				defer h.open.Add(-1)
				defer c.Close()
				in := listening(c)
				if config != nil {
					inside := tls.Server(in, config)
					if inside.Handshake() != nil {
						return
					}
					in = listening(inside)
				}
				s(in)
			}()
		}
	}()
	return h
}

// everyWay has a host asked in all ways that there are of asking.
func (h *host) everyWay() []string { return slices.Repeat([]string{h.address}, 4) }

// A stranger never keeps a check for long, makes it hold much, or keeps a
// connection of it, be it the issuer or where an honest issuer has its keys.
func TestStrangers(t *testing.T) {
	var all sync.WaitGroup
	few := make(chan bool, 8)
	for layer, them := range map[string]map[string]stranger{"TLS": shakers, "HTTP-1": strangers, "HTTP-2": framers} {
		for name, s := range them {
			// Both documents are asked for in the same way.
			for _, role := range map[string][]string{"TLS": {"issuer"}, "HTTP-1": {"issuer", "keys"}, "HTTP-2": {"keys"}}[layer] {
				few <- true
				all.Go(func() {
					defer func() { <-few }()
					t.Run(layer+"/"+name+"/"+role, func(t *testing.T) { meet(t, s, layer, role) })
				})
			}
		}
	}
	all.Wait()
}

func meet(t *testing.T, s stranger, layer, role string) {
	r := newRig(t)
	r.leaf(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "keys.example.com") })
	var config *tls.Config
	if layer != "TLS" {
		config = &tls.Config{Certificates: r.tls.Certificates, NextProtos: map[string][]string{"HTTP-2": {"h2"}}[layer]}
	}
	h := s.serve(t, config)
	if role == "issuer" {
		r.options.ConnectTo = map[string][]string{"oidc.example.com:443": h.everyWay()}
	} else {
		r.metadata["jwks_uri"] = "https://keys.example.com/keys"
		r.options.ConnectTo = map[string][]string{"keys.example.com:443": h.everyWay(), "oidc.example.com:443": {r.serve()}}
	}
	report := survive(t, r)
	if report.Count(check.Fail) == 0 {
		t.Error("nothing is wrong with it")
	}
	if n := h.came.Load(); n < 4 && (role == "issuer" || report.Seen.Discovery.Body != nil) {
		t.Errorf("it was asked %d times", n)
	}
	h.mustBeLeft(t)
}

// mustBeLeft wants every connection to end.
func (h *host) mustBeLeft(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); h.open.Load() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections were left behind", h.open.Load())
		}
	}
}

// survive checks what r.options say with little time, and holds the outcome
// against the bounds.
func survive(t *testing.T, r *rig) *check.Report {
	t.Helper()
	o := r.options
	o.Issuer, o.Timeout, o.Token = r.issuer, 300*time.Millisecond, r.forge().sign(t)
	neverSent(t, o.Token)
	// For each of the two documents: the name, twice all tries and a pause in
	// between, and HTTP/1.0.
	most := 2 * (time.Duration(1+2*(1+o.Tries)+1)*o.Timeout + time.Second)
	type outcome struct {
		report *check.Report
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		report, err := check.Run(context.Background(), o)
		done <- outcome{report, err}
	}()
	select {
	case got := <-done:
		if got.report == nil || got.err != nil && !errors.Is(got.err, check.ErrUnreachable) {
			t.Fatalf("got %v, %v", got.report, got.err)
		}
		bounded(t, got.report)
		printable(t, got.report)
		return got.report
	case <-time.After(10 * most):
		t.Fatalf("it should be over in %v", most)
		return nil
	}
}

// bounded fails t if a report holds more than it should.
func bounded(t *testing.T, report *check.Report) {
	t.Helper()
	for _, d := range []*check.Document{&report.Seen.Discovery, &report.Seen.KeySet} {
		answers := d.Answers
		if d.HTTP10 != nil {
			answers = append(slices.Clone(answers), *d.HTTP10)
		}
		for _, a := range answers {
			var header, chain int
			for name, values := range a.Header {
				header += len(name) + len(strings.Join(values, ""))
			}
			for _, c := range a.Chain {
				chain += len(c.Raw)
			}
			if len(a.Body) > 1<<20 || cap(a.Body) > 4<<20 || header > 80<<10 || chain > 256<<10 {
				t.Errorf("%s, %s: a body of %d bytes (room for %d), headers of %d, certificates of %d", d.URL, a.Proto, len(a.Body), cap(a.Body), header, chain)
			}
		}
	}
}

// discreet fails t if a report has the token in it.
func discreet(t *testing.T, report *check.Report, token string) {
	t.Helper()
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	printed := []string{string(text)}
	for _, v := range []any{report, *report, report.Seen, *report.Seen, report.Seen.Options, report.Results} {
		printed = append(printed, fmt.Sprintf("%v %+v %#v %s", v, v, v, v))
	}
	for _, part := range append(strings.Split(token, "."), token) {
		if len(part) >= 8 && slices.ContainsFunc(printed, func(s string) bool { return strings.Contains(s, part) }) {
			t.Errorf("it shows %.50q of the token", part)
		}
	}
}

// printable fails t if a report would do harm to the terminal that shows it.
func printable(t *testing.T, report *check.Report) {
	t.Helper()
	for _, r := range report.Results {
		for _, s := range []string{r.Seen, r.Why, r.Do} {
			if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(s) || len(s) > 3000 {
				t.Errorf("%s: %d bytes that are not fit to be printed: %.300q", r.Check, len(s), s)
			}
		}
	}
}
