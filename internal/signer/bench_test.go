//go:build unix

package signer_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	externaljwt "k8s.io/externaljwt/apis/v1"

	"oidc-provider/internal/signer"
)

// BenchmarkSign compares signing over the socket with the bare signature, by
// the CPU time of the process that signs. The two run in turns, since clock
// rates and neighbours change: overhead-µs/op is the difference.
func BenchmarkSign(b *testing.B) {
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256} {
		b.Run(string(alg), func(b *testing.B) {
			server := startSigner(b, alg)
			client := externaljwt.NewExternalJWTSignerClient(server.conn)
			req := &externaljwt.SignJWTRequest{Claims: podClaims()}
			var socket, bare time.Duration
			for b.Loop() {
				before := server.ask(b, "cpu")
				var callers errgroup.Group
				for range benchCallers {
					callers.Go(func() error {
						for range benchBatch / benchCallers {
							if _, err := client.Sign(b.Context(), req); err != nil {
								return err
							}
						}
						return nil
					})
				}
				if err := callers.Wait(); err != nil {
					b.Fatal(err)
				}
				socket += server.ask(b, "cpu") - before
				bare += server.ask(b, "bare")
			}
			n := float64(b.N * benchBatch)
			b.ReportMetric(float64(bare.Microseconds())/n, "bare-µs/sign")
			b.ReportMetric(float64(socket.Microseconds())/n, "socket-µs/sign")
			b.ReportMetric(float64((socket-bare).Microseconds())/n, "overhead-µs/sign")
		})
	}
}

// The callers keep the signer busy: a process that falls asleep after every
// signature is charged for waking up as well.
const benchBatch, benchCallers = 400, 8

// podClaims are as long as those of a Pod's token.
func podClaims() string {
	return encode(fmt.Sprintf(`{"aud":["x"],"exp":%d,"iss":%q,"kubernetes.io":{"x":%q}}`,
		time.Now().Add(time.Hour).Unix(), issuer, strings.Repeat("p", 500)))
}

// A signerProcess is a signer in a process of its own, this test binary run
// once more.
type signerProcess struct {
	conn   *grpc.ClientConn
	stdin  io.Writer
	stdout *bufio.Reader
}

// ask sends a line and returns the time in the answer.
func (s *signerProcess) ask(b *testing.B, question string) time.Duration {
	b.Helper()
	fmt.Fprintln(s.stdin, question)
	line, err := s.stdout.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	d, err := time.ParseDuration(strings.TrimSpace(line))
	if err != nil {
		b.Fatal(err)
	}
	return d
}

const benchSocket = "SIGNER_BENCH_SOCKET"

func startSigner(b *testing.B, alg jose.SignatureAlgorithm) *signerProcess {
	b.Helper()
	dir, err := os.MkdirTemp("", "signer")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	cmd := exec.Command(os.Args[0], string(alg))
	cmd.Env = append(os.Environ(), benchSocket+"="+path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close(); stdin.Close(); cmd.Wait() })
	s := &signerProcess{conn, stdin, bufio.NewReader(stdout)}
	s.ask(b, "cpu") // it answers once it listens
	return s
}

func TestMain(m *testing.M) {
	if path := os.Getenv(benchSocket); path != "" {
		if err := serveBenchmark(path, jose.SignatureAlgorithm(os.Args[1])); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveBenchmark answers "cpu" with the CPU time used so far, and "bare" with
// that of a batch of signatures.
func serveBenchmark(path string, alg jose.SignatureAlgorithm) error {
	keys, err := makeKeys(alg)
	if err != nil {
		return err
	}
	s, err := keys.Signer(time.Now())
	if err != nil {
		return err
	}
	l, err := signer.Listen(context.Background(), path, signer.Access{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	go signer.NewServer(keys, 0, slog.New(slog.DiscardHandler)).Serve(context.Background(), l, prometheus.NewRegistry())
	lines := bufio.NewScanner(os.Stdin)
	for claims := podClaims(); lines.Scan(); {
		start := cpuTime()
		if lines.Text() == "cpu" {
			start = 0
		} else {
			for range benchBatch {
				if _, _, err := s.Key.Sign(claims); err != nil {
					return err
				}
			}
		}
		fmt.Println(cpuTime() - start)
	}
	return lines.Err()
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
