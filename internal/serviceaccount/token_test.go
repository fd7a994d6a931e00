package serviceaccount_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/serviceaccount"
	"oidc-provider/rotation"
)

func newSigner(t *testing.T) (rotation.Signer, rotation.Key) {
	t.Helper()
	policy := rotation.Policy{Algorithm: jose.ES256, MaxTokenLifetime: rotation.Duration(2 * time.Hour)}
	ring, err := rotation.New("https://oidc.example.test", policy, time.Now(), rotation.GenerateKey)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := rotation.NewView(ring).Signer(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return signer, ring.Keys[0]
}

func request(change func(*serviceaccount.Request)) *serviceaccount.Request {
	q := &serviceaccount.Request{
		Audiences: []string{"demo"}, Namespace: "shop", ServiceAccount: "till", Lifetime: 2 * time.Hour,
	}
	change(q)
	return q
}

func parse(t *testing.T, token string, key rotation.Key) (claims serviceaccount.Claims) {
	t.Helper()
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(key.PublicKey().Key())
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestSign(t *testing.T) {
	signer, key := newSigner(t)
	now := time.Now().Truncate(time.Second)
	sign := func(change func(*serviceaccount.Request)) serviceaccount.Claims {
		token, err := request(change).Sign(signer, now)
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, token, key)
	}
	plain := sign(func(*serviceaccount.Request) {})
	if plain.Subject != "system:serviceaccount:shop:till" || plain.Issuer != signer.Issuer {
		t.Errorf("the claims are %+v", plain)
	}
	if plain.NotBefore != now.Unix() || plain.Expiry != now.Add(2*time.Hour).Unix() {
		t.Errorf("valid from %d until %d", plain.NotBefore, plain.Expiry)
	}
	if plain.Kubernetes.Pod != nil || plain.Kubernetes.Node != nil {
		t.Errorf("it is bound to %v on %v", plain.Kubernetes.Pod, plain.Kubernetes.Node)
	}
	bound := sign(func(q *serviceaccount.Request) { q.Pod, q.Node = "p", "n" })
	if bound.Kubernetes.Pod.Name != "p" || bound.Kubernetes.Node.Name != "n" {
		t.Errorf("it is bound to %v on %v", bound.Kubernetes.Pod, bound.Kubernetes.Node)
	}
	if bound.Kubernetes.ServiceAccount != plain.Kubernetes.ServiceAccount || bound.ID == plain.ID {
		t.Error("two tokens of a ServiceAccount must have its UID, and IDs of their own")
	}
}

func TestSignRefuses(t *testing.T) {
	signer, _ := newSigner(t)
	for _, tt := range []struct {
		name   string
		change func(*serviceaccount.Request)
		want   string
	}{
		{"no lifetime", func(q *serviceaccount.Request) { q.Lifetime = 0 }, "cannot be valid for 0s"},
		{"too long", func(q *serviceaccount.Request) { q.Lifetime += time.Second }, "at most 2h0m0s"},
		{"no audience", func(q *serviceaccount.Request) { q.Audiences = nil }, "must not be empty"},
		{"an empty one", func(q *serviceaccount.Request) { q.Audiences = []string{"a", ""} }, "must not be empty"},
		{"no namespace", func(q *serviceaccount.Request) { q.Namespace = "" }, "names of Kubernetes objects"},
		{"another subject", func(q *serviceaccount.Request) { q.ServiceAccount = "a:b" }, "names of Kubernetes objects"},
		{"a Node alone", func(q *serviceaccount.Request) { q.Node = "n" }, "only a token of a Pod"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token, err := request(tt.change).Sign(signer, time.Now())
			if err == nil || token != "" || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v, want an error with %q", token, err, tt.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	const kubernetes = `"kubernetes.io":{"namespace":"a","serviceaccount":{"name":"b","uid":"1"}}`
	for _, tt := range []struct {
		name, claims string
		want         bool
	}{
		{"as Kubernetes writes it", `{"aud":["x"],"exp":1,` + kubernetes + `,"sub":"system:serviceaccount:a:b"}`, true},
		{"other forms of times and aud", `{"aud":"x","exp":1.5e9,"iat":1.25,` + kubernetes + `,"sub":"system:serviceaccount:a:b"}`, true},
		{"another ServiceAccount", `{` + kubernetes + `,"sub":"system:serviceaccount:a:c"}`, false},
		{"only sub", `{"sub":"system:serviceaccount:a:b"}`, false},
		{"only kubernetes.io", `{` + kubernetes + `}`, false},
		{"no names", `{"kubernetes.io":{},"sub":"system:serviceaccount::"}`, false},
		{"a user", `{` + kubernetes + `,"sub":"admin"}`, false},
		{"sub that is a number", `{` + kubernetes + `,"sub":7}`, false},
		{"kubernetes.io that is a string", `{"kubernetes.io":"a","sub":"system:serviceaccount:a:b"}`, false},
	} {
		if err := serviceaccount.Check([]byte(tt.claims)); (err == nil) != tt.want {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
}
