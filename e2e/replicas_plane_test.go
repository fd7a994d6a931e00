package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// A controlPlane is an etcd with the ring, and replicas of the provider, each
// the signer of an API server of its own. The API servers are one cluster. Its
// objects are in another etcd, which no fault meets: the tests are about the
// ring.
type controlPlane struct {
	lab      *lab
	members  []*etcdMember
	replicas []*replica
	identity *age.X25519Identity // opens the ring's keys
}

// A replica reaches each member of etcd over a line of its own.
type replica struct {
	*provider
	index   int
	cluster *cluster
	lines   []*proxy
}

// startControlPlane brings up n of each. The ring is sealed and signed.
func (l *lab) startControlPlane(n int, policy policy) *controlPlane {
	l.t.Helper()
	p := l.startReplicas(n, policy)
	p.startAPIServers()
	return p
}

// sharedIssuer is what the replicas have in common. Nobody but a [balancer]
// finds it.
const sharedIssuer = "https://issuer.test"

// startReplicas leaves out the API servers.
func (l *lab) startReplicas(n int, policy policy) *controlPlane {
	l.t.Helper()
	p := l.newReplicas(n, policy)
	p.replicas[0].change(append([]string{
		"init", "--issuer", sharedIssuer, "--recipient", p.identity.Recipient().String(),
	}, policy.flags()...)...)
	p.launchReplicas()
	return p
}

// newReplicas starts etcd, and leaves out the ring and the replicas as well.
func (l *lab) newReplicas(n int, policy policy) *controlPlane {
	l.t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		l.t.Fatal(err)
	}
	p := &controlPlane{lab: l, members: l.startMembers(n), identity: identity}
	identityFile := l.write("identity.txt", identity.String()+"\n")
	for i := range n {
		r := &replica{provider: l.newProvider(policy), index: i}
		r.name, r.issuer = fmt.Sprintf("replica-%d", i), sharedIssuer
		var lines []string
		for _, m := range p.members {
			line := l.startProxy(l.t, m.client)
			r.lines = append(r.lines, line)
			lines = append(lines, line.listen)
		}
		r.store = "etcd://" + strings.Join(lines, ",") + "/oidc-provider"
		p.replicas = append(p.replicas, r)
	}
	for _, r := range p.replicas {
		r.identity = []string{"--age-identity", identityFile}
		r.extra = []string{"--witness-ca-file", l.ca.caFile}
		for _, other := range p.replicas {
			if other != r {
				r.extra = append(r.extra, "--witness", other.address()+"/openid/v1/jwks")
			}
		}
		if n == 1 {
			r.extra = append(r.extra, "--witness", "none")
		}
	}
	return p
}

func (p *controlPlane) launchReplicas() {
	p.lab.t.Helper()
	for _, r := range p.replicas {
		r.launch()
	}
	for _, r := range p.replicas {
		r.process.awaitReady(30*time.Second, r.ready)
	}
}

func (p *controlPlane) startAPIServers() {
	p.lab.t.Helper()
	etcd := p.lab.startEtcd()
	for _, r := range p.replicas {
		r.cluster = p.lab.newAPIServer(fmt.Sprintf("kube-apiserver-%d", r.index), etcd)
		r.cluster.launch(r.issuer, r.signerFlags()...)
	}
	for _, r := range p.replicas {
		r.cluster.await()
	}
}

// address is where the replica itself can be asked, past any load balancer.
func (r *replica) address() string { return "https://" + r.listen }

// A knowledge is what a replica shows of the ring.
type knowledge struct {
	generation string
	read       time.Time // when the replica read it last
	kids       []string
}

var known = regexp.MustCompile(`ring generation (\d+), read (\S+) ago`)

// knows is what a replica shows that says of itself that it is ready.
func (r *replica) knows(ctx context.Context, client *http.Client) (knowledge, error) {
	var k knowledge
	asked := time.Now()
	status, report, err := get(ctx, client, "http://"+r.admin+"/readyz?verbose")
	if err != nil {
		return k, err
	}
	match := known.FindStringSubmatch(report)
	if status != http.StatusOK || match == nil {
		return k, fmt.Errorf("readyz: %d\n%s", status, report)
	}
	age, err := time.ParseDuration(match[2])
	if err != nil {
		return k, err
	}
	k.generation, k.read = match[1], asked.Add(-age)
	status, set, err := get(ctx, client, r.address()+"/openid/v1/jwks")
	if err != nil || status != http.StatusOK {
		return k, fmt.Errorf("JWKS: %d %w", status, err)
	}
	var parsed struct {
		Keys []struct {
			KeyID string `json:"kid"`
		} `json:"keys"`
	}
	if err := json.Unmarshal([]byte(set), &parsed); err != nil {
		return k, err
	}
	for _, key := range parsed.Keys {
		k.kids = append(k.kids, key.KeyID)
	}
	return k, nil
}

func get(ctx context.Context, client *http.Client, url string) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return response.StatusCode, string(data), err
}

// agree waits until r is ready and shows what the others do. It must have read
// that since back, lest what it knew from before only happens to be true still.
func (p *controlPlane) agree(r *replica, back time.Time, within time.Duration) error {
	client := p.lab.ca.client()
	other := p.replicas[(r.index+1)%len(p.replicas)]
	deadline := time.Now().Add(within)
	for {
		ctx, cancel := context.WithTimeout(p.lab.t.Context(), time.Second)
		want, err := other.knows(ctx, client)
		if err != nil {
			err = fmt.Errorf("%s, which no fault has met: %w", other.name, err)
		}
		got, gotErr := r.knows(ctx, client)
		cancel()
		err = errors.Join(err, gotErr)
		if err == nil && got.read.After(back) && got.generation == want.generation && slices.Equal(got.kids, want.kids) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s shows %v, and %s shows %v: %w", r.name, got, other.name, want, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ranks is the order in which the keys of the ring sign.
func ranks(t testing.TB, keys []ringKey) map[string]int {
	t.Helper()
	signs := slices.DeleteFunc(slices.Clone(keys), func(k ringKey) bool { return k.SignFrom == nil })
	slices.SortFunc(signs, func(a, b ringKey) int { return a.SignFrom.Compare(*b.SignFrom) })
	order := make(map[string]int)
	for i, k := range signs {
		order[k.KeyID] = i
	}
	return order
}
