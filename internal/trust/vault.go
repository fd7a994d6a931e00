package trust

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Vault is trust of HashiCorp Vault, or OpenBao: a mount of the jwt auth
// method, which has one issuer, and a role that the ServiceAccount logs in with.
type Vault struct {
	Facts
	Path     string        // of the mount below auth/; default jwt
	RoleName string        // default NAMESPACE_SERVICEACCOUNT
	Policies []string      // of the tokens that Vault gives, beside its policy default
	TTL      time.Duration // of those tokens, however often renewed; default an hour
	KeysFrom string        // discovery (the default), jwks or copy
	Address  string        // of Vault, for the Pod
}

var (
	vaultPath   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)
	vaultRole   = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)
	vaultPolicy = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./-]*$`)
	httpAddress = regexp.MustCompile(`^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$`)
)

// Target implements [Setup].
func (v *Vault) Target() Target {
	return Target{"vault", []string{"cli", "terraform", "pod"}, "vault"}
}

func (v *Vault) fill(format string) error {
	if v.Path == "" {
		v.Path = "jwt"
	}
	if v.RoleName == "" {
		v.RoleName = v.account()
	}
	if v.TTL == 0 {
		v.TTL = time.Hour
	}
	if v.KeysFrom == "" {
		v.KeysFrom = KeysDiscovery
	}
	switch {
	case v.KeysFrom != KeysDiscovery && v.KeysFrom != KeysJWKS && v.KeysFrom != KeysCopy:
		return fmt.Errorf("--keys %q: Vault takes %s, %s or %s", v.KeysFrom, KeysDiscovery, KeysJWKS, KeysCopy)
	case v.TTL < time.Second:
		return fmt.Errorf("--ttl %v: want a second at least", v.TTL)
	case format == "pod" && v.Address == "":
		return errors.New("--address is required for a Pod: the URL that it reaches Vault at")
	}
	for _, p := range v.Policies {
		if err := match("policy", p, vaultPolicy, "a policy has letters, digits and characters of _./-"); err != nil {
			return err
		}
	}
	return errors.Join(
		match("path", v.Path, vaultPath, "that of the mount without auth/, like jwt"),
		match("role-name", v.RoleName, vaultRole, "a role has letters, digits and characters of _.-"),
		match("address", v.Address, httpAddress, "it looks like https://vault.example.com:8200"))
}

func (v *Vault) ready(format string) error {
	switch {
	case format == "pod":
	case v.KeysFrom == KeysJWKS && v.JWKSURI == "":
		return errors.New("--keys jwks: the jwks_uri of the issuer is not known")
	case v.Copied() && len(v.Keys) == 0:
		return errors.New("--keys copy: no key of the issuer is known")
	}
	return nil
}

// Copied reports whether Vault holds a copy of the keys.
func (v *Vault) Copied() bool { return v.KeysFrom == KeysCopy }

// Copy is the name of that copy.
func (v *Vault) Copy() string { return shorten("vault-"+slug(v.Path, "-"), 63) }

// ShowCopy is the command that shows what Vault holds.
func (v *Vault) ShowCopy() string { return "vault read -format=json auth/" + v.Path + "/config" }

// RoleLabel is what the role is called in Terraform.
func (v *Vault) RoleLabel() string { return slug(v.RoleName, "_") }

// Seconds are those of the TTL.
func (v *Vault) Seconds() int { return int(v.TTL / time.Second) }

// Config is that of the mount.
func (v *Vault) Config() any {
	c := struct {
		BoundIssuer  string   `json:"bound_issuer"`
		DiscoveryURL string   `json:"oidc_discovery_url,omitempty"`
		DiscoveryCA  string   `json:"oidc_discovery_ca_pem,omitempty"`
		JWKSURL      string   `json:"jwks_url,omitempty"`
		JWKSCA       string   `json:"jwks_ca_pem,omitempty"`
		PublicKeys   []string `json:"jwt_validation_pubkeys,omitempty"`
	}{BoundIssuer: v.Issuer.String()}
	switch v.KeysFrom {
	case KeysDiscovery:
		c.DiscoveryURL, c.DiscoveryCA = v.Issuer.String(), string(v.CA)
	case KeysJWKS:
		c.JWKSURL, c.JWKSCA = v.JWKSURI, string(v.CA)
	case KeysCopy:
		c.PublicKeys = v.PEMKeys()
	}
	return c
}

// Role lets the ServiceAccount and nobody else log in.
func (v *Vault) Role() any {
	return struct {
		RoleType       string   `json:"role_type"`
		UserClaim      string   `json:"user_claim"`
		BoundAudiences []string `json:"bound_audiences"`
		BoundSubject   string   `json:"bound_subject"`
		TokenPolicies  []string `json:"token_policies"`
		TokenTTL       int      `json:"token_ttl"`
		TokenMaxTTL    int      `json:"token_max_ttl"`
	}{"jwt", "sub", []string{v.Audience}, v.Subject(), v.TokenPolicies(), v.Seconds(), v.Seconds()}
}

// TokenPolicies are never null, which would leave a role those that it has.
func (v *Vault) TokenPolicies() []string { return append([]string{}, v.Policies...) }
