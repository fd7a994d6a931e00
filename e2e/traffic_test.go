package e2e

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	issueEvery = 100 * time.Millisecond
	sweepEvery = time.Second // how often a relying party looks at every token again
)

// A traffic issues tokens without a pause, through the API server, while every
// relying party verifies every token: as soon as it is issued, when its cache of
// keys may be old, and again and again until the end.
type traffic struct {
	t       *testing.T
	cluster *cluster
	parties []relyingParty
	// patience is how long a TokenRequest that failed is repeated. With none,
	// the first failure fails the test.
	patience time.Duration

	stopIssuing, stopVerifying context.CancelFunc
	issuers, verifiers         sync.WaitGroup

	mu          sync.Mutex
	tokens      []issuedToken // append-only
	signers     []string      // kids in the order in which they began to sign
	longestWait time.Duration // for a token, failed attempts included
	failures    int

	verified atomic.Int64
}

type issuedToken struct {
	raw, kid string
	asked    time.Time // just before the request, so the signature is younger
}

// start returns at once. The traffic stops with the test if stop is not called.
func (tr *traffic) start() {
	issuing, stopIssuing := context.WithCancel(tr.t.Context())
	verifying, stopVerifying := context.WithCancel(tr.t.Context())
	tr.stopIssuing, tr.stopVerifying = stopIssuing, stopVerifying
	tr.issuers.Go(func() { tr.issue(issuing) })
	for _, party := range tr.parties {
		tr.verifiers.Go(func() { tr.verify(verifying, party) })
	}
	tr.t.Cleanup(tr.stop)
}

// stop ends the issuing first, so that every relying party's last look is at
// every token there is.
func (tr *traffic) stop() {
	tr.stopIssuing()
	tr.issuers.Wait()
	tr.stopVerifying()
	tr.verifiers.Wait()
}

func (tr *traffic) issue(ctx context.Context) {
	for ctx.Err() == nil {
		wanted := time.Now()
		token, err := tr.request(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			tr.fail("no token after %s: %v", time.Since(wanted).Round(time.Millisecond), err)
		} else {
			tr.record(token, time.Since(wanted))
		}
		time.Sleep(issueEvery)
	}
}

func (tr *traffic) request(ctx context.Context) (issuedToken, error) {
	var token issuedToken
	err := persist(ctx, tr.patience, func() error {
		token.asked = time.Now()
		raw, err := tr.cluster.requestToken(ctx, shortest, nil, audience)
		if err != nil {
			return err
		}
		h, err := header(raw)
		token.raw, token.kid = raw, h.KeyID
		return err
	})
	return token, err
}

// record also checks the order of signers: requests follow one another here, so
// a kid that comes back has been in use beyond its hand-over.
func (tr *traffic) record(token issuedToken, waited time.Duration) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.tokens = append(tr.tokens, token)
	tr.longestWait = max(tr.longestWait, waited)
	if n := len(tr.signers); n > 0 && tr.signers[n-1] == token.kid {
		return
	}
	if slices.Contains(tr.signers, token.kid) {
		tr.t.Errorf("key %s signs again after it handed over", token.kid)
	}
	tr.signers = append(tr.signers, token.kid)
}

func (tr *traffic) verify(ctx context.Context, party relyingParty) {
	next, swept := 0, time.Now()
	for ctx.Err() == nil {
		tokens := tr.issued()
		for ; next < len(tokens); next++ {
			tr.check(party, next, tokens[next])
		}
		if !party.once && time.Since(swept) >= sweepEvery {
			tr.checkAll(party)
			swept = time.Now()
		}
		time.Sleep(20 * time.Millisecond)
	}
	tr.checkAll(party)
}

func (tr *traffic) checkAll(party relyingParty) {
	for i, token := range tr.issued() {
		tr.check(party, i, token)
	}
}

func (tr *traffic) check(party relyingParty, i int, token issuedToken) {
	err := party.verify(tr.t.Context(), token.raw)
	tr.verified.Add(1)
	if err != nil {
		tr.fail("%s rejects token %d, %s old, signed by %s: %v",
			party.name, i, time.Since(token.asked).Round(time.Millisecond), token.kid, err)
	}
}

// fail reports the first failures in full; the rest would only bury them. A
// test that has ended for another reason takes its requests down with it: those
// failures mean nothing.
func (tr *traffic) fail(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.t.Context().Err() != nil {
		return
	}
	tr.failures++
	if tr.failures <= 10 {
		tr.t.Errorf(format, args...)
	} else {
		tr.t.Fail()
	}
}

func (tr *traffic) issued() []issuedToken {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.tokens
}

func (tr *traffic) signedBy() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.signers)
}

func (tr *traffic) report() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.t.Logf("%d tokens from %d keys, verified %d times by %d relying parties: %d failures; longest wait for a token %s",
		len(tr.tokens), len(tr.signers), tr.verified.Load(), len(tr.parties), tr.failures, tr.longestWait.Round(time.Millisecond))
}

// persist repeats try until it succeeds or patience is over.
func persist(ctx context.Context, patience time.Duration, try func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil || ctx.Err() != nil || !time.Now().Before(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
