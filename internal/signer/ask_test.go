package signer_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/signer"
)

func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ask") // t.TempDir may be longer than a socket's name can be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A path may contain any character, also those with a meaning in a URL.
func TestAsk(t *testing.T) {
	dir := socketDir(t)
	t.Chdir(dir)
	keys := newKeys(t, jose.ES256)
	for _, socket := range []string{filepath.Join(dir, "s"), "s2", filepath.Join(dir, "a%zz?b=c#d e"), fmt.Sprintf("@ask-%d", os.Getpid())} {
		l, err := signer.Listen(t.Context(), socket, signer.Access{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- signer.NewServer(keys, 0, slog.New(slog.DiscardHandler)).Serve(ctx, l, prometheus.NewRegistry())
		}()
		metadata, answer, err := signer.Ask(t.Context(), socket)
		if err != nil || len(answer.Keys) != 2 || metadata.MaxTokenExpirationSeconds != 24*3600 {
			t.Errorf("%s: got %v, %v, %v", socket, metadata, answer, err)
		}
		cancel()
		<-served
	}
}

// Ask returns when its context ends and says what is wrong, with any server at the socket.
func TestAskOfStrangers(t *testing.T) {
	dir := socketDir(t)
	if _, _, err := signer.Ask(t.Context(), filepath.Join(dir, "none")); err == nil || !strings.Contains(hint.Of(err), "it is running") {
		t.Errorf("no server: got %v", err)
	}
	for name, answer := range map[string]func(net.Conn){
		"nothing": func(c net.Conn) { io.Copy(io.Discard, c) },
		"the end": func(net.Conn) {},
		"HTTP/1": func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		},
		"endless settings": func(c net.Conn) {
			go io.Copy(io.Discard, c)
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
			}
		},
	} {
		l, err := net.Listen("unix", filepath.Join(dir, strings.Fields(name)[0][:3]))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					answer(c)
				}()
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, _, err := signer.Ask(ctx, l.Addr().String()); err == nil {
			t.Errorf("%s: asked, and answered", name)
		}
		cancel()
	}
}
