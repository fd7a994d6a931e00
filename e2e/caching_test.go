package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// A cachingKeySet is as lazy as HTTP allows a relying party to be: it keeps the
// JWKS for exactly max-age seconds from receipt, and until then it does not ask
// again for anything, an unknown kid included.
type cachingKeySet struct {
	client *http.Client
	url    string

	mu       sync.Mutex
	keys     jose.JSONWebKeySet
	received time.Time
	maxAge   time.Duration
	fetches  int
}

// VerifySignature implements oidc.KeySet.
func (s *cachingKeySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	signed, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		return nil, err
	}
	keys, age, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	kid := signed.Signatures[0].Header.KeyID
	matching := keys.Key(kid)
	if len(matching) != 1 {
		return nil, fmt.Errorf("%d keys with kid %s among %d, fetched %s ago", len(matching), kid, len(keys.Keys), age)
	}
	return signed.Verify(matching[0])
}

// current returns the cached keys and their age, and fetches them if, and only
// if, they are older than their max-age.
func (s *cachingKeySet) current(ctx context.Context) (jose.JSONWebKeySet, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := time.Since(s.received); age < s.maxAge {
		return s.keys, age, nil
	}
	keys, header, err := fetchKeySet(ctx, s.client, s.url)
	if err != nil {
		return keys, 0, err
	}
	maxAge, err := parseMaxAge(header.Get("Cache-Control"))
	if err != nil {
		return keys, 0, err
	}
	s.keys, s.maxAge, s.received = keys, maxAge, time.Now()
	s.fetches++
	return s.keys, 0, nil
}

// parseMaxAge demands a max-age: without one the laziest relying party would
// not be bounded at all.
func parseMaxAge(cacheControl string) (time.Duration, error) {
	for directive := range strings.SplitSeq(cacheControl, ",") {
		value, found := strings.CutPrefix(strings.TrimSpace(directive), "max-age=")
		if !found {
			continue
		}
		seconds, err := strconv.Atoi(value)
		if err != nil || seconds <= 0 {
			return 0, fmt.Errorf("Cache-Control %q: max-age is not a number of seconds above zero", cacheControl)
		}
		return time.Duration(seconds) * time.Second, nil
	}
	return 0, fmt.Errorf("Cache-Control %q: no max-age", cacheControl)
}

// caching makes n lazy relying parties whose caches expire at moments spread
// evenly over max-age, so that at any instant, and so at every hand-over, one of
// them holds a cache nearly as old as a cache may be.
func (d discovered) caching(t *testing.T, n int, maxAge time.Duration) ([]relyingParty, []*cachingKeySet) {
	t.Helper()
	meta := d.metadata(t)
	var parties []relyingParty
	var sets []*cachingKeySet
	for i := range n {
		set := &cachingKeySet{client: d.client, url: meta.JWKSURI}
		config := &oidc.Config{ClientID: audience, SupportedSigningAlgs: meta.Algorithms}
		verifier := oidc.NewVerifier(meta.Issuer, set, config)
		parties = append(parties, relyingParty{
			name: fmt.Sprintf("cache %d", i),
			verify: func(ctx context.Context, token string) error {
				_, err := verifier.Verify(ctx, token)
				return err
			},
		})
		sets = append(sets, set)
		// The first fetch sets the phase, which lasts: each later fetch follows
		// the expiry of the one before it.
		if _, _, err := set.current(t.Context()); err != nil {
			t.Fatal(err)
		}
		if set.maxAge != maxAge {
			t.Fatalf("JWKS is served with max-age %s, want %s", set.maxAge, maxAge)
		}
		time.Sleep(maxAge / time.Duration(n))
	}
	return parties, sets
}
