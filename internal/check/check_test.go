package check_test

import (
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/internal/check"
)

func TestSoundIssuerPasses(t *testing.T) {
	r := newRig(t)
	r.options.Parties = check.PartyNames()
	report, err := r.check()
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range report.Results {
		if result.Status == check.Warn || result.Status == check.Fail ||
			result.Status == check.Skip && !strings.HasSuffix(result.Check, "/addresses") {
			t.Errorf("%+v", result)
		}
	}
	if report.Count(check.Pass) < 50 {
		t.Errorf("%d checks passed", report.Count(check.Pass))
	}
}

// Each row is one thing that is wrong, and the first check that must say so.
var faults = map[string]struct {
	check  string
	status check.Status // default Fail
	plant  func(*rig)
}{
	"issuer with a slash that is not in discovery": {check: "discovery/issuer", plant: func(r *rig) { r.issuer += "/" }},
	"issuer with white space":                      {check: "issuer/url", plant: func(r *rig) { r.issuer += " " }},
	"issuer with a query":                          {check: "issuer/url", plant: func(r *rig) { r.issuer += "?a=b" }},
	"issuer that is the address of discovery":      {check: "issuer/url", plant: func(r *rig) { r.issuer += discovery.WellKnown }},
	"issuer in upper case":                         {check: "issuer/case", status: check.Warn, plant: func(r *rig) { r.setIssuer("https://OIDC.example.com") }},
	"issuer that ends with a slash":                {check: "issuer/slash", status: check.Warn, plant: func(r *rig) { r.setIssuer("https://oidc.example.com/") }},
	"issuer with a port for AWS":                   {check: "aws/issuer", plant: func(r *rig) { r.setIssuer("https://oidc.example.com:8443") }},
	"issuer too long for AWS":                      {check: "aws/issuer", plant: func(r *rig) { r.setIssuer("https://oidc.example.com/" + strings.Repeat("a", 240)) }},
	"issuer too long for Entra ID": {check: "azure/issuer", plant: func(r *rig) {
		r.options.Parties = []string{"azure"}
		r.setIssuer("https://oidc.example.com/" + strings.Repeat("a", 580))
	}},
	"http":                              {check: "issuer/scheme", plant: func(r *rig) { r.plain() }},
	"private address":                   {check: "issuer/addresses", plant: func(r *rig) { r.loopback() }},
	"certificate that has expired":      {check: "discovery/certificate", plant: func(r *rig) { r.leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }) }},
	"certificate that is not valid yet": {check: "discovery/certificate", plant: func(r *rig) { r.leaf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }) }},
	"certificate for another host":      {check: "discovery/certificate", plant: func(r *rig) { r.leaf(func(c *x509.Certificate) { c.DNSNames = []string{"example.com"} }) }},
	"certificate for clients": {check: "discovery/certificate", plant: func(r *rig) {
		r.leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	}},
	"certificate by a CA that nobody knows": {check: "discovery/certificate", plant: func(r *rig) { r.tls.Certificates = []tls.Certificate{private.leaf(r, nil)} }},
	"intermediate certificate missing":      {check: "discovery/certificate", plant: func(r *rig) { c := &r.tls.Certificates[0]; c.Certificate = c.Certificate[:1] }},
	"certificate of one replica has expired": {check: "discovery/certificate", plant: func(r *rig) {
		r.replica(func(c *rig) { c.leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }) })
	}},
	"certificate that ends soon":             {check: "discovery/expiry", status: check.Warn, plant: func(r *rig) { r.leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(3 * time.Hour) }) }},
	"TLS 1.1":                                {check: "discovery/tls", plant: func(r *rig) { r.tls.MinVersion, r.tls.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }},
	"CA of one's own for Google Cloud":       {check: "gcp/ca", plant: func(r *rig) { r.privateCA() }},
	"CA of one's own for Entra ID":           {check: "azure/ca", plant: func(r *rig) { r.privateCA(); r.options.Parties = []string{"azure"} }},
	"an address where nobody listens":        {check: "discovery/answer", plant: func(r *rig) { r.options.ConnectTo = map[string][]string{"oidc.example.com:443": {closed(r)}} }},
	"a server that accepts and says nothing": {check: "discovery/answer", plant: func(r *rig) { r.slow(discovery.WellKnown) }},
	"a key set that does not come":           {check: "jwks/answer", plant: func(r *rig) { r.slow(discovery.JWKSPath) }},
	"a body that breaks off":                 {check: "discovery/answer", plant: func(r *rig) { r.configuration.header.Set("X-Break", "1"); r.breakOff() }},
	"discovery somewhere else":               {check: "discovery/status", plant: func(r *rig) { r.configuration.status = 404 }},
	"discovery behind a login":               {check: "discovery/status", plant: func(r *rig) { r.configuration.status = 403 }},
	"requests are limited":                   {check: "jwks/status", plant: func(r *rig) { r.limit(3) }},
	"a replica without the key set":          {check: "jwks/status", plant: func(r *rig) { r.replica(func(c *rig) { c.keySet.status = 503 }) }},
	"discovery redirects": {check: "discovery/redirect", plant: func(r *rig) {
		r.configuration.status = 301
		r.configuration.header.Set("Location", "https://oidc.example.com/")
	}},
	"key set redirects to http":        {check: "jwks/redirect", plant: func(r *rig) { r.keySet.status = 302; r.keySet.header.Set("Location", "http://oidc.example.com/") }},
	"discovery as HTML":                {check: "discovery/content-type", plant: func(r *rig) { r.configuration.header.Set("Content-Type", "text/html; charset=utf-8") }},
	"key set as HTML":                  {check: "jwks/content-type", plant: func(r *rig) { r.keySet.header.Set("Content-Type", "text/html") }},
	"key set as bytes":                 {check: "jwks/content-type", status: check.Warn, plant: func(r *rig) { r.keySet.header.Set("Content-Type", "application/octet-stream") }},
	"JSON in Latin-1":                  {check: "discovery/content-type", plant: func(r *rig) { r.configuration.header.Set("Content-Type", "application/json; charset=iso-8859-1") }},
	"compressed for everybody":         {check: "discovery/encoding", plant: func(r *rig) { r.gzip() }},
	"discovery that is no JSON":        {check: "discovery/json", plant: func(r *rig) { r.configuration.body = []byte("<html>Welcome") }},
	"discovery with a byte order mark": {check: "discovery/json", plant: func(r *rig) { r.configuration.body = []byte("\xef\xbb\xbf{}") }},
	"discovery with an issuer twice": {check: "discovery/json", plant: func(r *rig) {
		r.configuration.body = []byte(`{"issuer":"https://evil.example","issuer":"` + issuer + `","jwks_uri":"` + issuer + `/openid/v1/jwks"}`)
	}},
	"discovery of another issuer":        {check: "discovery/issuer", plant: func(r *rig) { r.metadata["issuer"] = "https://other.example.com" }},
	"discovery without an issuer":        {check: "discovery/issuer", plant: func(r *rig) { delete(r.metadata, "issuer") }},
	"discovery without jwks_uri":         {check: "discovery/jwks_uri", plant: func(r *rig) { delete(r.metadata, "jwks_uri") }},
	"jwks_uri without a host":            {check: "discovery/jwks_uri", plant: func(r *rig) { r.metadata["jwks_uri"] = "/openid/v1/jwks" }},
	"jwks_uri over http":                 {check: "discovery/jwks_uri", plant: func(r *rig) { r.metadata["jwks_uri"] = "http://oidc.example.com/openid/v1/jwks" }},
	"jwks_uri to a file":                 {check: "discovery/jwks_uri", plant: func(r *rig) { r.metadata["jwks_uri"] = "file:///etc/passwd" }},
	"jwks_uri to where there is nothing": {check: "jwks/status", plant: func(r *rig) { r.metadata["jwks_uri"] = issuer + "/keys" }},
	"jwks_uri on a host with another CA": {check: "jwks/certificate", plant: func(r *rig) { r.otherHost() }},
	"discovery without response types":   {check: "discovery/members", plant: func(r *rig) { delete(r.metadata, "response_types_supported") }},
	"discovery without algorithms":       {check: "discovery/members", plant: func(r *rig) { r.metadata["id_token_signing_alg_values_supported"] = "RS256" }},
	"algorithm that is not advertised":   {check: "discovery/algorithms", plant: func(r *rig) { r.metadata["id_token_signing_alg_values_supported"] = []string{"ES256"} }},
	"algorithm none":                     {check: "discovery/algorithms", plant: func(r *rig) { r.metadata["id_token_signing_alg_values_supported"] = []string{"RS256", "none"} }},
	"algorithm HS256":                    {check: "discovery/algorithms", status: check.Warn, plant: func(r *rig) { r.metadata["id_token_signing_alg_values_supported"] = []string{"RS256", "HS256"} }},
	"no Cache-Control":                   {check: "discovery/cache", status: check.Warn, plant: func(r *rig) { r.configuration.header.Del("Cache-Control") }},
	"Last-Modified alone": {check: "jwks/cache", plant: func(r *rig) {
		r.keySet.header.Del("Cache-Control")
		r.keySet.header.Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
	}},
	"s-maxage":                                  {check: "jwks/cache", plant: func(r *rig) { r.keySet.header.Set("Cache-Control", "public, max-age=300, s-maxage=86400") }},
	"max-age beyond the publication lead":       {check: "jwks/cache", plant: func(r *rig) { r.keySet.header.Set("Cache-Control", "public, max-age=172800") }},
	"max-age beyond a lead of an hour":          {check: "discovery/cache", plant: func(r *rig) { r.options.PublishAhead = 30 * time.Minute }},
	"max-age near the publication lead":         {check: "jwks/cache", status: check.Warn, plant: func(r *rig) { r.keySet.header.Set("Cache-Control", "public, max-age=64800") }},
	"stale answers beyond the publication lead": {check: "jwks/cache", plant: func(r *rig) { r.keySet.header.Set("Cache-Control", "max-age=300, stale-while-revalidate=604800") }},
	"Expires in a year": {check: "jwks/cache", plant: func(r *rig) {
		r.keySet.header.Del("Cache-Control")
		r.keySet.header.Set("Expires", time.Now().Add(8000*time.Hour).UTC().Format(http.TimeFormat))
	}},
	"not cached":                 {check: "jwks/cache", status: check.Warn, plant: func(r *rig) { r.keySet.header.Set("Cache-Control", "no-store") }},
	"Cache-Control that is none": {check: "jwks/cache", plant: func(r *rig) { r.keySet.header.Set("Cache-Control", "max-age=soon") }},
	"a stale replica": {check: "jwks/same", plant: func(r *rig) {
		r.replica(func(c *rig) { c.keys[0] = jwk(r, readKey(r, "rsa-pkcs1.pem").PublicKey); c.keys[0]["kid"] = "old" })
	}},
	"answers that change from one time to the next": {check: "jwks/same", plant: func(r *rig) { r.flicker() }},
	"replicas of two issuers":                       {check: "discovery/same", plant: func(r *rig) { r.replica(func(c *rig) { c.metadata["issuer"] = "https://other.example.com" }) }},
	"chunked for HTTP/1.0":                          {check: "discovery/http10", status: check.Warn, plant: func(r *rig) { r.refuseHTTP10() }},
	"a key set of 40 KiB":                           {check: "jwks/size", status: check.Warn, plant: func(r *rig) { r.metadata["x"] = "y"; r.keys[0]["comment"] = strings.Repeat("x", 40<<10) }},
	"a key set of 40 KiB for nginx": {check: "nginx/bytes", plant: func(r *rig) {
		r.options.Parties = []string{"nginx"}
		r.keys[0]["comment"] = strings.Repeat("x", 40<<10)
	}},
	"a key set without end":  {check: "jwks/size", plant: func(r *rig) { r.keySet.body = []byte(`{"keys":[` + strings.Repeat(" ", 2<<20)) }},
	"key set without keys":   {check: "jwks/json", plant: func(r *rig) { r.keySet.body = []byte(`{}`) }},
	"key set with no key":    {check: "jwks/json", plant: func(r *rig) { r.keys = []map[string]any{} }},
	"key set that is a list": {check: "jwks/json", plant: func(r *rig) { r.keySet.body = []byte(`[]`) }},
	"two arrays of keys":     {check: "jwks/json", plant: func(r *rig) { r.keySet.body = []byte(`{"keys":[],"keys":[]}`) }},
	"a private key":          {check: "jwks/private", plant: func(r *rig) { r.keys[0]["d"] = "AQAB" }},
	"a symmetric key":        {check: "jwks/private", plant: func(r *rig) { r.keys = append(r.keys, map[string]any{"kty": "oct", "k": "c2VjcmV0", "kid": "s"}) }},
	"a key that is a number": {check: "jwks/kty", plant: func(r *rig) { r.keySet.body = []byte(`{"keys":[7]}`) }},
	"a key of a new type":    {check: "jwks/kty", plant: func(r *rig) { r.keys = append(r.keys, map[string]any{"kty": "AKP", "kid": "new", "pub": "AQAB"}) }},
	"a key on another curve": {check: "jwks/kty", plant: func(r *rig) {
		r.keys[0] = map[string]any{"kty": "EC", "crv": "secp256k1", "x": "AQAB", "y": "AQAB", "kid": "k"}
	}},
	"a point that is not on the curve": {check: "jwks/material", plant: func(r *rig) { r.elliptic("ec-prime256v1.pem"); r.keys[0]["x"] = r.keys[0]["y"] }},
	"a key without a modulus":          {check: "jwks/material", plant: func(r *rig) { delete(r.keys[0], "n") }},
	"a key without kid":                {check: "jwks/kid", plant: func(r *rig) { delete(r.keys[0], "kid") }},
	"a kid that stands twice": {check: "jwks/unique", plant: func(r *rig) {
		k := jwk(r, readKey(r, "rsa-pkcs1.pem").PublicKey)
		k["kid"] = r.keys[0]["kid"]
		r.keys = append(r.keys, k)
	}},
	"a key for encryption": {check: "jwks/use", plant: func(r *rig) { r.keys[0]["use"] = "enc" }},
	"an algorithm of another type": {check: "jwks/alg", plant: func(r *rig) {
		r.keys[0]["alg"] = "ES256"
		r.metadata["id_token_signing_alg_values_supported"] = []string{"RS256", "ES256"}
	}},
	"a key for ES512":                     {check: "jwks/es512", status: check.Warn, plant: func(r *rig) { r.elliptic("ec-secp521r1.pem") }},
	"an RSA key of 1024 bits":             {check: "jwks/strength", plant: func(r *rig) { r.modulus(1024) }},
	"an RSA key of 16384 bits":            {check: "jwks/material", plant: func(r *rig) { r.modulus(16384) }},
	"an exponent of 3":                    {check: "jwks/strength", status: check.Warn, plant: func(r *rig) { r.keys[0]["e"] = "Aw" }},
	"key_ops":                             {check: "jwks/members", plant: func(r *rig) { r.keys[0]["key_ops"] = []string{"verify"} }},
	"x5c":                                 {check: "jwks/members", status: check.Warn, plant: func(r *rig) { r.keys[0]["x5c"] = r.x5c() }},
	"x5c that is none":                    {check: "jwks/material", plant: func(r *rig) { r.keys[0]["x5c"] = []string{"MIIB"} }},
	"x5t#S256":                            {check: "jwks/members", status: check.Warn, plant: func(r *rig) { r.keys[0]["x5t#S256"] = strings.Repeat("A", 43) }},
	"six keys":                            {check: "jwks/count", status: check.Warn, plant: func(r *rig) { r.many(6) }},
	"sixty keys":                          {check: "jwks/count", plant: func(r *rig) { r.many(60) }},
	"a hundred and one RSA keys, for AWS": {check: "jwks/count", plant: func(r *rig) { r.many(101) }},
	"ES256 for Entra ID":                  {check: "azure/keys", plant: func(r *rig) { r.elliptic("ec-prime256v1.pem") }},
	"Ed25519 for kube-apiserver":          {check: "kubernetes/keys", plant: func(r *rig) { r.options.Parties = []string{"kubernetes"}; r.ed25519() }},
	"ES384 for Google Cloud":              {check: "gcp/keys", plant: func(r *rig) { r.elliptic("ec-secp384r1.pem") }},
	"Ed25519 for AWS":                     {check: "aws/keys", plant: func(r *rig) { r.ed25519() }},
	"keys that nginx keeps longer than they are old": {check: "nginx/cached", plant: func(r *rig) { r.options.Parties = []string{"nginx"}; r.options.PublishAhead = 2 * time.Hour }},
	"intermediate certificate missing at one replica": {check: "discovery/certificate", plant: func(r *rig) {
		r.replica(func(c *rig) {
			c.tls.Certificates = slices.Clone(c.tls.Certificates)
			c.tls.Certificates[0].Certificate = c.tls.Certificates[0].Certificate[:1]
		})
	}},
	"HTTP/2 broken at one replica": {check: "discovery/status", plant: func(r *rig) {
		r.replica(func(c *rig) {
			c.before = func(w http.ResponseWriter, req *http.Request) bool {
				if req.ProtoMajor == 2 {
					w.WriteHeader(http.StatusMisdirectedRequest)
				}
				return req.ProtoMajor == 2
			}
		})
	}},
	"max-age of one replica":               {check: "jwks/cache", plant: func(r *rig) { r.replica(func(c *rig) { c.keySet.header.Set("Cache-Control", "max-age=172800") }) }},
	"Content-Type of one replica":          {check: "discovery/content-type", plant: func(r *rig) { r.replica(func(c *rig) { c.configuration.header.Del("Content-Type") }) }},
	"Expires: 0":                           {check: "jwks/cache", status: check.Warn, plant: func(r *rig) { r.keySet.header = http.Header{"Content-Type": {"application/json"}, "Expires": {"0"}} }},
	"s-maxage within the publication lead": {check: "jwks/cache", status: check.Warn, plant: func(r *rig) { r.keySet.header.Set("Cache-Control", "max-age=300, s-maxage=600") }},
	"discovery that is null":               {check: "discovery/json", plant: func(r *rig) { r.configuration.body = []byte("null") }},
	"members that differ by case":          {check: "discovery/json", plant: func(r *rig) { r.metadata["Issuer"] = "https://other.example.com" }},
	"a list of numbers":                    {check: "discovery/members", plant: func(r *rig) { r.metadata["response_types_supported"] = []int{7} }},
	"keys in upper case":                   {check: "jwks/json", plant: func(r *rig) { r.keySet.body = []byte(`{"Keys":[]}`) }},
	"jwks_uri to this machine":             {check: "jwks/addresses", plant: func(r *rig) { r.metadata["jwks_uri"] = "https://127.0.0.1:1/keys" }},
	"a slow answer":                        {check: "discovery/latency", status: check.Warn, plant: func(r *rig) { r.delay(discovery.WellKnown) }},
	"an answer too slow for older Nimbus":  {check: "spring/wait", plant: func(r *rig) { r.options.Parties = []string{"spring"}; r.delay(discovery.JWKSPath) }},
}

func TestCheckFindsFaults(t *testing.T) {
	if len(faults) < 40 {
		t.Fatal("too few faults to believe in")
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			fault.plant(r)
			report, err := r.check()
			if report == nil {
				t.Fatal(err)
			}
			mustFind(t, report, fault.check, fault.status)
		})
	}
}

// mustFind wants a check to be the first that finds something.
func mustFind(t *testing.T, report *check.Report, id string, status check.Status) {
	t.Helper()
	if status == "" {
		status = check.Fail
	}
	for _, result := range report.Results {
		if result.Status != check.Fail && (status != check.Warn || result.Status != check.Warn) {
			continue
		}
		if result.Check != id || result.Status != status {
			t.Errorf("got %+v first, want %s of %s", result, status, id)
		}
		if result.Seen == "" || result.Why == "" || result.Do == "" {
			t.Errorf("%+v: it must say what was seen, why it matters and what to do", result)
		}
		return
	}
	t.Errorf("nothing was found, want %s of %s", status, id)
}

// setIssuer moves the rig to another issuer, in all places.
func (r *rig) setIssuer(raw string) {
	i, err := discovery.ParseIssuer(raw)
	if err != nil {
		r.Fatal(err)
	}
	u := i.URL()
	path := strings.TrimSuffix(u.Path, "/")
	r.issuer = raw
	r.metadata["issuer"], r.metadata["jwks_uri"] = raw, i.JWKSURI()
	r.before = func(_ http.ResponseWriter, req *http.Request) bool {
		req.URL.Path = strings.TrimPrefix(req.URL.Path, path)
		return false
	}
}

func (r *rig) leaf(change func(*x509.Certificate)) {
	r.tls.Certificates = []tls.Certificate{intermediate.leaf(r, change)}
	r.tls.Certificates[0].Certificate = append(r.tls.Certificates[0].Certificate, intermediate.cert.Raw)
}

// replica puts a second server beside r, broken by change.
func (r *rig) replica(change func(*rig)) {
	c := r.clone()
	change(c)
	r.replicas = []*rig{r, c}
}

// privateCA has the certificates of an enterprise's own CA, which is known.
func (r *rig) privateCA() {
	r.tls.Certificates = []tls.Certificate{private.leaf(r, nil)}
	r.options.Roots = x509.NewCertPool()
	r.options.Roots.AddCert(private.cert)
}

// plain serves without TLS.
func (r *rig) plain() {
	r.issuer = "http://localhost"
	r.metadata["issuer"], r.metadata["jwks_uri"] = r.issuer, r.issuer+discovery.JWKSPath
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.Fatal(err)
	}
	s := &http.Server{Handler: r}
	go s.Serve(l)
	r.Cleanup(func() { s.Close() })
	r.options.ConnectTo = map[string][]string{"localhost:80": {l.Addr().String()}}
}

// loopback is asked at its address, without a name.
func (r *rig) loopback() {
	r.options.Parties = []string{"gcp"} // it has nothing against a port
	r.leaf(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })
	c := r.clone()
	address := c.serve()
	r.issuer = "https://" + address
	c.metadata["issuer"], c.metadata["jwks_uri"] = r.issuer, r.issuer+discovery.JWKSPath
}

// closed is an address where nobody listens.
func closed(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// slow never answers for a path.
func (r *rig) slow(path string) {
	r.options.Timeout = 300 * time.Millisecond
	r.before = func(_ http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path == path {
			<-req.Context().Done()
			return true
		}
		return false
	}
}

// delay has the answer for a path take longer than some wait.
func (r *rig) delay(path string) {
	r.options.Tries = 1
	r.before = func(_ http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path == path {
			time.Sleep(550 * time.Millisecond)
		}
		return false
	}
}

func (r *rig) breakOff() {
	r.before = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", "1000")
		w.Write([]byte(`{"issuer":`))
		panic(http.ErrAbortHandler)
	}
}

func (r *rig) limit(n int) {
	seen := make(chan bool, n)
	r.before = func(w http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path != discovery.JWKSPath {
			return false
		}
		select {
		case seen <- true:
			return false
		default:
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return true
		}
	}
}

func (r *rig) gzip() {
	r.before = func(w http.ResponseWriter, req *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		fmt.Fprintf(z, `{"issuer":%q}`, issuer)
		z.Close()
		return true
	}
}

func (r *rig) flicker() {
	n := make(chan int, 1)
	n <- 0
	r.before = func(w http.ResponseWriter, req *http.Request) bool {
		i := <-n
		n <- i + 1
		if req.URL.Path == discovery.JWKSPath && i%2 == 1 {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"keys":[]}`))
			return true
		}
		return false
	}
}

func (r *rig) refuseHTTP10() {
	r.before = func(w http.ResponseWriter, req *http.Request) bool {
		if req.ProtoMajor == 1 && req.ProtoMinor == 0 {
			http.Error(w, "upgrade", http.StatusUpgradeRequired)
			return true
		}
		return false
	}
}

// otherHost puts the key set on a host whose CA nobody knows.
func (r *rig) otherHost() {
	other := newRig(r)
	other.tls.Certificates = []tls.Certificate{private.leaf(r, func(c *x509.Certificate) { c.DNSNames = []string{"keys.example.com"} })}
	r.metadata["jwks_uri"] = "https://keys.example.com" + discovery.JWKSPath
	r.options.ConnectTo = map[string][]string{"keys.example.com:443": {other.serve()}}
}

func (r *rig) elliptic(name string) {
	r.signing = readKey(r, name)
	r.keys = []map[string]any{jwk(r, r.signing.PublicKey)}
	r.metadata["id_token_signing_alg_values_supported"] = []string{string(r.signing.Algorithm())}
}

func (r *rig) ed25519() {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		r.Fatal(err)
	}
	r.keys = append(r.keys, map[string]any{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "ed", "x": base64.RawURLEncoding.EncodeToString(public)})
	r.metadata["id_token_signing_alg_values_supported"] = []string{"RS256", "EdDSA"}
}

// modulus makes the key one of so many bits.
func (r *rig) modulus(bits int) {
	n := make([]byte, bits/8)
	rand.Read(n)
	n[0] |= 0x80
	n[len(n)-1] |= 1
	r.keys[0]["n"] = base64.RawURLEncoding.EncodeToString(n)
}

// many makes n keys of one.
func (r *rig) many(n int) {
	one := r.keys[0]
	r.keys = nil
	for i := range n {
		k := map[string]any{}
		for name, v := range one {
			k[name] = v
		}
		k["kid"] = fmt.Sprintf("key-%d", i)
		r.keys = append(r.keys, k)
	}
}

func TestListHasEveryCheckOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range check.List() {
		if seen[c.ID] || c.ID == "" || !strings.HasSuffix(c.Asks, "?") {
			t.Errorf("%+v: seen before, or no question", c)
		}
		seen[c.ID] = true
	}
	for name, fault := range faults {
		if !seen[fault.check] {
			t.Errorf("%s: no check %q", name, fault.check)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	for name, o := range map[string]check.Options{
		"no issuer":             {},
		"unknown relying party": {Issuer: issuer, Parties: []string{"aws", "alexa"}},
		"negative timeout":      {Issuer: issuer, Timeout: -1},
		"too many tries":        {Issuer: issuer, Tries: 1e6},
	} {
		if report, err := check.Run(context.Background(), o); err == nil || report != nil {
			t.Errorf("%s: got %v, %v", name, report, err)
		}
	}
	r := newRig(t)
	r.options.ConnectTo = map[string][]string{"oidc.example.com:443": {closed(t)}}
	r.options.Issuer = issuer
	if _, err := check.Run(context.Background(), r.options); !errors.Is(err, check.ErrUnreachable) {
		t.Errorf("nobody there: got %v", err)
	}
}

// What is behind a redirect was not asked for, so nothing is said of it.
func TestNothingIsSaidOfWhatIsBehindARedirect(t *testing.T) {
	r := newRig(t)
	r.configuration.status = 302
	r.configuration.header.Set("Location", "https://oidc.example.com/elsewhere")
	report, err := r.check()
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range report.Results {
		switch result.Check {
		case "discovery/status", "discovery/size", "discovery/same":
			if result.Status != check.Skip {
				t.Errorf("%+v, want it skipped", result)
			}
		}
	}
}
