package e2e

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	loadEvery    = 100 * time.Millisecond // between two TokenRequests to one API server
	loadPatience = 3 * time.Second        // with one of them
	recheckEvery = time.Second
	recheckSome  = 50 // tokens, at random
)

// A load asks all API servers for tokens at once, and has every relying party
// verify every token: when it is new, some now and then, and all in the end.
type load struct {
	t        *testing.T
	replicas []*replica
	parties  []relyingParty

	stopAsking, stopVerifying context.CancelFunc
	askers, verifiers         sync.WaitGroup

	mu       sync.Mutex
	tokens   []signedToken // append-only
	refused  []refusal
	failures int

	verified atomic.Int64
}

// A signedToken was signed at some time between asked and got.
type signedToken struct {
	raw, kid   string
	replica    int
	asked, got time.Time
}

// A refusal is a TokenRequest that brought no token.
type refusal struct {
	replica    int
	asked, got time.Time
	err        error
}

func (l *load) start() {
	asking, stopAsking := context.WithCancel(l.t.Context())
	verifying, stopVerifying := context.WithCancel(l.t.Context())
	l.stopAsking, l.stopVerifying = stopAsking, stopVerifying
	for i, r := range l.replicas {
		l.askers.Go(func() { l.ask(asking, i, r.cluster) })
	}
	for _, party := range l.parties {
		l.verifiers.Go(func() { l.verify(verifying, party) })
	}
	l.t.Cleanup(l.stop)
}

// stop lets every relying party look at every token once more.
func (l *load) stop() {
	l.stopAsking()
	l.askers.Wait()
	l.stopVerifying()
	l.verifiers.Wait()
}

func (l *load) ask(ctx context.Context, i int, c *cluster) {
	for ctx.Err() == nil {
		asked := time.Now()
		limited, cancel := context.WithTimeout(ctx, loadPatience)
		raw, err := c.requestToken(limited, shortest, nil, audience)
		cancel()
		got := time.Now()
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		if err != nil {
			l.refused = append(l.refused, refusal{i, asked, got, err})
		} else {
			h, err := header(raw)
			if err != nil {
				l.t.Error(err)
			}
			l.tokens = append(l.tokens, signedToken{raw, h.KeyID, i, asked, got})
		}
		l.mu.Unlock()
		time.Sleep(time.Until(asked.Add(loadEvery)))
	}
}

func (l *load) verify(ctx context.Context, party relyingParty) {
	next, rechecked := 0, time.Now()
	for ctx.Err() == nil {
		tokens := l.issued()
		for ; next < len(tokens); next++ {
			l.check(party, next, tokens[next])
		}
		if time.Since(rechecked) >= recheckEvery && next > 0 {
			for range recheckSome {
				i := rand.IntN(next)
				l.check(party, i, tokens[i])
			}
			rechecked = time.Now()
		}
		time.Sleep(20 * time.Millisecond)
	}
	for i, token := range l.issued() {
		l.check(party, i, token)
	}
}

func (l *load) check(party relyingParty, i int, token signedToken) {
	began := time.Now()
	err := party.verify(l.t.Context(), token.raw)
	l.verified.Add(1)
	if err == nil || l.t.Context().Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures++; l.failures <= 10 {
		l.t.Errorf("%s rejects token %d at %s, asked of replica %d %s before, signed by %s: %v",
			party.name, i, clock(began), token.replica, began.Sub(token.asked).Round(time.Millisecond), token.kid, err)
	}
}

func (l *load) issued() []signedToken {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tokens
}

// kids are those that have signed, in the order of their first token.
func (l *load) kids() []string {
	var kids []string
	seen := make(map[string]bool)
	for _, token := range l.issued() {
		if !seen[token.kid] {
			seen[token.kid] = true
			kids = append(kids, token.kid)
		}
	}
	return kids
}

// refusals counts those that came from the replica's own knowledge being old,
// and those for other reasons, like its not being there.
func (l *load) refusals() (stale, other int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.refused {
		if strings.Contains(r.err.Error(), "the ring was last read") {
			stale++
		} else {
			other++
		}
	}
	return stale, other
}

// refusedBy lists the refusals of replica i between two times.
func (l *load) refusedBy(i int, from, to time.Time) []refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	var some []refusal
	for _, r := range l.refused {
		if r.replica == i && r.got.After(from) && r.asked.Before(to) {
			some = append(some, r)
		}
	}
	return some
}

// disagreement is for how long an old key was in use after a newer one: the
// longest time from the arrival of a token by a newer key to the request of one
// by an older. Negative if every token of the newer came later. order has the
// kids in the order in which they sign.
func (l *load) disagreement(order map[string]int) (longest time.Duration, old, young signedToken) {
	tokens := l.issued()
	first := make(map[int]signedToken) // by any key of this rank or a later one
	for _, token := range tokens {
		for rank := 0; rank <= order[token.kid]; rank++ {
			if f, found := first[rank]; !found || token.got.Before(f.got) {
				first[rank] = token
			}
		}
	}
	longest = -time.Hour
	for _, token := range tokens {
		younger, found := first[order[token.kid]+1]
		if !found {
			continue
		}
		if d := token.asked.Sub(younger.got); d > longest {
			longest, old, young = d, token, younger
		}
	}
	return longest, old, young
}

// clock is a time of day to compare with the logs.
func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }
