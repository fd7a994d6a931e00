package e2e

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/seal"
	"oidc-provider/rotation"
)

const (
	allowUnsigned = "--allow-unsigned-ring"
	ringKeyInEtcd = "/oidc-provider/ring"
)

// TestUpgradeUnderLoad signs the ring of a fleet of an earlier version, and then
// changes the identity of the fleet, in the order of docs/operate.md. No token may
// fail to verify, and only TokenRequests to a server that is being restarted may fail.
// At the end nobody can change the ring with the identity that was removed.
//
// The first servers are this program, which makes no difference between its own
// unsigned rings and those of earlier versions. Set E2E_EARLIER to a program of an
// earlier version to begin with that.
func TestUpgradeUnderLoad(t *testing.T) {
	checkRoom(t, shared)
	lab := newLab(t)
	p := lab.newReplicas(3, shared)
	p.createUnsigned()
	first := p.replicas[0]
	oldIdentity := first.identity
	next, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	newIdentity := []string{"--age-identity", lab.write("new-identity.txt", next.String()+"\n")}
	earlier := os.Getenv("E2E_EARLIER")
	for _, r := range p.replicas {
		r.binary = cmp.Or(earlier, r.binary)
		if earlier == "" {
			r.extra = append(r.extra, allowUnsigned)
		}
	}
	p.launchReplicas()
	p.startAPIServers()
	b := newBalancer(t, p.replicas)
	client := lab.ca.client()
	client.Transport, client.Timeout = b, 2*recovery
	d := discover(t, sharedIssuer, client)
	caches, sets := d.caching(t, 4, shared.maxAge)
	l := &load{t: t, replicas: p.replicas, parties: append(caches, d.remote())}
	l.start()
	began := time.Now()

	u := &upgrade{controlPlane: p, load: l}
	oldWriter, newWriter := writerID(first, oldIdentity), writerID(first, newIdentity)
	pinned := u.addPublisher("pinned", allowUnsigned, "--ring-signer", oldWriter)
	u.addPublisher("learns", "--rollback-state", lab.path("memory"))
	if earlier != "" {
		u.restartAll("a version that can sign", func(r *replica) {
			r.binary, r.extra = providerBinary, append(r.extra, allowUnsigned)
		})
	}
	u.change("sign")
	u.restartAll("signed rings only", func(r *replica) {
		r.extra = slices.DeleteFunc(r.extra, func(flag string) bool { return flag == allowUnsigned })
	})
	u.restartPublisher(pinned, "--ring-signer", oldWriter)

	u.restartPublisher(pinned, "--ring-signer", oldWriter, "--ring-signer", newWriter)
	u.restartAll("both identities", func(r *replica) { r.identity = slices.Concat(oldIdentity, newIdentity) })
	u.change("reseal", "--recipient", p.identity.Recipient().String(), "--recipient", next.Recipient().String())
	both := mustGet(t, etcdClient(t, p.members...), ringKeyInEtcd).Value
	first.identity = newIdentity // of the command; the servers have both
	u.change("reseal", "--recipient", next.Recipient().String())
	u.checkRefusesRemoved(both, oldIdentity[1]) // although the servers still have it
	u.restartAll("the new identity alone", func(r *replica) { r.identity = newIdentity })
	u.restartPublisher(pinned, "--ring-signer", newWriter)
	u.awaitRotation()
	u.checkRefusesRemoved(both, oldIdentity[1])
	u.checkRefusesAtStart(both, oldIdentity[1])
	u.awaitRotation()
	l.stop()

	checkLaziness(t, sets, time.Since(began))
	u.checkOnlyRestarts(b)
	if stale, _ := l.refusals(); stale > 0 {
		t.Errorf("%d TokenRequests were refused for old knowledge of the ring", stale)
	}
	p.checkDisagreement(l, first.mustKeys())
	p.checkSealed()
	p.reviewAll(l)
	report(t, l, b, nil)
	for _, r := range u.everyone() {
		r.process.stop(10 * time.Second)
	}
}

// writerID returns the ID that an identity has as a writer.
func writerID(r *replica, identity []string) string {
	r.lab.t.Helper()
	return strings.TrimSpace(r.must(append([]string{"keys", "writers", "id"}, identity...)...))
}

// createUnsigned makes a ring as versions did that knew no signatures.
func (p *controlPlane) createUnsigned() {
	t := p.lab.t
	t.Helper()
	policy := p.replicas[0].policy
	ring, err := rotation.New(sharedIssuer, rotation.Policy{
		Schedule: policy.schedule, Algorithm: jose.SignatureAlgorithm(policy.algorithm),
		PublishAhead: rotation.Duration(policy.publishAhead), MaxTokenLifetime: rotation.Duration(shortest),
		ClockSkew: rotation.Duration(allowedSkew),
	}, time.Now(), rotation.GenerateKey)
	if err != nil {
		t.Fatal(err)
	}
	ring.Recipients = []string{p.identity.Recipient().String()}
	store := openStore(t, p.members[0].client, ringKeyInEtcd)
	if err := rotation.Create(t.Context(), store, p.sealer(), ring); err != nil {
		t.Fatal(err)
	}
}

// sealer returns one with the identities in these files.
func (p *controlPlane) sealer(identityFiles ...string) *seal.Sealer {
	t := p.lab.t
	t.Helper()
	s, err := seal.New(seal.Config{IdentityFiles: identityFiles})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// An upgrade is of servers that are under load.
type upgrade struct {
	*controlPlane
	load       *load
	restarted  []struckFault
	publishers []*replica // neither sign nor write
	attacked   bool       // the servers have reported forged rings
}

func (u *upgrade) everyone() []*replica { return slices.Concat(u.replicas, u.publishers) }

// addPublisher starts a server that only publishes.
func (u *upgrade) addPublisher(name string, flags ...string) *replica {
	u.lab.t.Helper()
	r := u.another(name, append(flags, "--witness", "none")...)
	r.socket, r.identity = "", nil
	r.start()
	u.publishers = append(u.publishers, r)
	return r
}

func (u *upgrade) restartPublisher(r *replica, flags ...string) {
	u.lab.t.Helper()
	u.stop(r)
	r.extra = append(flags, "--witness", "none")
	r.launch()
	u.awaitAgreement("restarted", r)
}

// stop ends a server that is well, and wants no error in its log, unless there was an
// attack. What an earlier version logs is not looked at.
func (u *upgrade) stop(r *replica) {
	u.lab.t.Helper()
	if u.attacked || r.binary != providerBinary {
		r.process.stop(10 * time.Second)
		return
	}
	r.provider.stop()
}

// restartAll restarts those that sign, one after the other.
func (u *upgrade) restartAll(with string, configure func(*replica)) {
	t := u.lab.t
	t.Helper()
	began := time.Now()
	for _, r := range u.replicas {
		s := struckFault{fault{name: "restarted"}, span{from: time.Now()}, r.index}
		u.stop(r)
		configure(r)
		r.launch()
		u.awaitAgreement("restarted with "+with, r)
		eventually(t, r.name+" signs for its API server", recovery, func() error {
			_, err := r.cluster.requestToken(t.Context(), shortest, nil, audience)
			return err
		})
		s.to = time.Now()
		u.restarted = append(u.restarted, s)
	}
	t.Logf("%s restarted with %s in %s", clock(began), with, time.Since(began).Round(time.Millisecond))
}

// change runs one of the `keys` commands, and waits until all servers use the result.
func (u *upgrade) change(args ...string) {
	t := u.lab.t
	t.Helper()
	began := time.Now()
	u.replicas[0].change(args...)
	written := time.Now()
	for _, r := range u.everyone() {
		if err := u.agree(r, written, agreement); err != nil {
			t.Errorf("keys %s: %v", args[0], err)
		}
		// For a moment, the rotation after this change is not planned yet.
		eventually(t, r.name+" reports no problem after keys "+args[0], 5*agreement, r.well)
	}
	checkSealedDocument(t, mustGet(t, etcdClient(t, u.members...), ringKeyInEtcd).Value)
	t.Logf("%s keys %s took %s, and all servers used it %s later", clock(began), args[0],
		written.Sub(began).Round(time.Millisecond), time.Since(written).Round(time.Millisecond))
}

// awaitRotation waits until a key signs that did not before.
func (u *upgrade) awaitRotation() {
	before := len(u.load.kids())
	eventually(u.lab.t, "a rotation", 3*shared.publishAhead, func() error {
		if len(u.load.kids()) == before {
			return fmt.Errorf("%d keys have signed", before)
		}
		return nil
	})
}

// checkOnlyRestarts wants every failed TokenRequest to have met a server that was
// being restarted, and no server to be not ready otherwise.
func (u *upgrade) checkOnlyRestarts(b *balancer) {
	t := u.lab.t
	t.Helper()
	during := func(i int, from, to time.Time) bool {
		return slices.ContainsFunc(u.restarted, func(s struckFault) bool {
			return s.victim == i && to.After(s.from) && from.Before(s.to)
		})
	}
	refused := 0
	for i := range u.replicas {
		for _, r := range u.load.refusedBy(i, time.Time{}, time.Now()) {
			refused++
			if !during(i, r.asked, r.got) {
				t.Errorf("replica %d refused at %s, and was not being restarted: %v", i, clock(r.asked), r.err)
			}
		}
		for _, o := range b.outages(i) {
			if !during(i, o.from, o.from.Add(probeEvery)) {
				t.Errorf("replica %d was not ready from %s to %s, and was not being restarted", i, clock(o.from), clock(o.to))
			}
		}
	}
	t.Logf("%d restarts; %d TokenRequests failed meanwhile", len(u.restarted), refused)
}
