package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// A policy is the part of the program's flags that the tests vary.
type policy struct {
	schedule  string
	algorithm string
	// Relying parties keep the JWKS for maxAge; a key is published for
	// publishAhead before it signs. The program grants caches half of that time
	// less the clock skew, and no more.
	publishAhead, maxAge time.Duration
}

// calm never rotates while a test runs, but could be told to within seconds.
var calm = policy{schedule: "@every 720h", algorithm: "RS256", publishAhead: 5 * time.Second, maxAge: 2 * time.Second}

// flags are those that both `keys init` and `serve` take.
func (p policy) flags() []string {
	return []string{
		"--schedule", p.schedule,
		"--algorithm", p.algorithm,
		"--publish-ahead", p.publishAhead.String(),
		"--max-token-lifetime", shortest.String(),
		"--clock-skew", "500ms",
	}
}

// A provider is our program, its key store, and the addresses it keeps when it
// is killed and started again.
type provider struct {
	lab    *lab
	name   string // of its log
	binary string // of the server; all commands are the program of today
	policy policy

	issuer, listen, admin string
	store, socket         string   // a server without a socket only publishes
	identity              []string // flags that open and sign the ring, of serve and of commands that change it
	extra                 []string // more flags for serve

	process *child
}

func (l *lab) newProvider(policy policy) *provider {
	l.t.Helper()
	port := l.freePort()
	return &provider{
		lab: l, name: "oidc-provider", binary: providerBinary, policy: policy,
		issuer: fmt.Sprintf("https://localhost:%d", port),
		listen: address(port),
		admin:  address(l.freePort()),
		store:  l.path("keys"),
		socket: l.socketPath(),
	}
}

// init makes a new ring of keys.
func (p *provider) init() {
	p.lab.t.Helper()
	p.change(append([]string{"init", "--issuer", p.issuer}, p.policy.flags()...)...)
}

// start runs the server and returns when it says that it is ready.
func (p *provider) start() {
	p.lab.t.Helper()
	p.launch()
	p.process.awaitReady(30*time.Second, p.ready)
}

// launch runs the server without waiting. It takes its policy from the ring.
func (p *provider) launch() {
	p.lab.t.Helper()
	role := []string{"--publish-only"}
	if p.socket != "" {
		role = []string{"--signer-socket", p.socket, "--refresh-hint", "1s"}
	}
	p.process = p.lab.startChild(p.name, p.binary, append([]string{"serve",
		"--issuer", p.issuer,
		"--listen", p.listen,
		"--admin-listen", p.admin,
		"--store", p.store,
		"--jwks-max-age", p.policy.maxAge.String(),
		"--discovery-max-age", p.policy.maxAge.String(),
		"--tls-cert", p.lab.ca.certFile,
		"--tls-key", p.lab.ca.keyFile,
		"--log-format", "json",
		"--shutdown-delay", "0s",
	}, slices.Concat(role, p.identity, p.extra)...)...)
}

// configure writes, in one step, a configuration file with the field tls and
// these issuers: for each URL the field that says where its keys come from. The
// file takes the place of the ring and of all flags.
func (p *provider) configure(tls string, issuers map[string]string) {
	p.lab.t.Helper()
	text := fmt.Sprintf("listen: %s\nadminListen: %s\nshutdownDelay: 0s\nstateDir: %s-state\ntls: %s\nissuers:\n",
		p.listen, p.admin, p.name, tls)
	for issuer, source := range issuers {
		text += fmt.Sprintf("- {issuer: %q, %s}\n", issuer, source)
	}
	path := p.lab.write(p.name+".yaml.new", text)
	if err := os.Rename(path, p.configFile()); err != nil {
		p.lab.t.Fatal(err)
	}
}

func (p *provider) configFile() string { return p.lab.path(p.name + ".yaml") }

// startConfigured runs the server with its configuration file, and returns when
// it says that it is ready.
func (p *provider) startConfigured() {
	p.lab.t.Helper()
	p.process = p.lab.startChild(p.name, providerBinary,
		append([]string{"serve", "--config", p.configFile(), "--log-format", "json"}, p.extra...)...)
	p.process.awaitReady(30*time.Second, p.ready)
}

func (p *provider) ready() error {
	return expectOK(p.lab.ca.client(), "http://"+p.admin+"/readyz?verbose")
}

// signerFlags point an API server at this provider.
func (p *provider) signerFlags() []string {
	return []string{"--service-account-signing-endpoint=" + p.socket}
}

func (p *provider) jwksURL() string { return p.issuer + "/openid/v1/jwks" }

// run executes one of the program's commands to its end. The error of a command
// that refused carries what it wrote to standard error.
func (p *provider) run(ctx context.Context, stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, providerBinary, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("oidc-provider %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.String(), nil
}

// must is run for commands that have to succeed.
func (p *provider) must(args ...string) string {
	p.lab.t.Helper()
	out, err := p.run(p.lab.t.Context(), "", args...)
	if err != nil {
		p.lab.t.Fatal(err)
	}
	return out
}

// change runs one of the `keys` commands that change the ring. It has to succeed.
func (p *provider) change(args ...string) string {
	p.lab.t.Helper()
	return p.must(p.changing(args...)...)
}

// changing returns the arguments of such a command.
func (p *provider) changing(args ...string) []string {
	return slices.Concat([]string{"keys"}, args, []string{"--store", p.store}, p.identity)
}

// verify runs `oidc-provider verify` on a token as a user with a shell would,
// and returns the claims it prints.
func (p *provider) verify(ctx context.Context, token, audience string) (map[string]any, error) {
	out, err := p.run(ctx, token+"\n",
		"verify", "--issuer", p.issuer, "--audience", audience, "--ca-file", p.lab.ca.caFile, "-")
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	if err := json.Unmarshal([]byte(out), &claims); err != nil {
		return nil, fmt.Errorf("verify printed no JSON object: %w\n%s", err, out)
	}
	return claims, nil
}

// refusedFor says whether a command ended with exit status 1 and gave this
// reason before any other.
func refusedFor(err error, reason string) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == 1 && strings.Contains(err.Error(), "\nError: "+reason+":")
}

// A ringKey is one line of `keys list`.
type ringKey struct {
	KeyID     string     `json:"kid"`
	Algorithm string     `json:"algorithm"`
	Phase     string     `json:"phase"`
	PublishAt *time.Time `json:"publishAt"`
	SignFrom  *time.Time `json:"signFrom"`
	SignUntil *time.Time `json:"signUntil"`
	RemoveAt  *time.Time `json:"removeAt"`
}

func (p *provider) keys(ctx context.Context) ([]ringKey, error) {
	out, err := p.run(ctx, "", "keys", "list", "--store", p.store, "-o", "json")
	if err != nil {
		return nil, err
	}
	var ring struct{ Keys []ringKey }
	if err := json.Unmarshal([]byte(out), &ring); err != nil {
		return nil, fmt.Errorf("keys list printed no ring: %w\n%s", err, out)
	}
	return ring.Keys, nil
}

func (p *provider) mustKeys() []ringKey {
	p.lab.t.Helper()
	keys, err := p.keys(p.lab.t.Context())
	if err != nil {
		p.lab.t.Fatal(err)
	}
	return keys
}

// inPhase lists the kids of a phase.
func inPhase(keys []ringKey, phase string) []string {
	var kids []string
	for _, key := range keys {
		if key.Phase == phase {
			kids = append(kids, key.KeyID)
		}
	}
	slices.Sort(kids)
	return kids
}
