package trust

import (
	"errors"
	"regexp"
	"time"

	"oidc-provider/internal/hint"
)

// Vault is trust of HashiCorp Vault, or OpenBao: a mount of the jwt auth
// method, which has one issuer, and a role that the ServiceAccount logs in with.
type Vault struct {
	Facts
	Path     string        // of the mount below auth/; default jwt
	RoleName string        // default NAMESPACE_SERVICEACCOUNT
	Policies []string      // of Vault's tokens, in addition to the policy default
	TTL      time.Duration // of those tokens, including renewals; default an hour
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
		return hint.Errorf("for Vault, {option.keys} takes discovery, jwks or copy", "unknown source of keys %q", v.KeysFrom)
	case v.TTL < time.Second:
		return hint.Errorf("set {option.ttl} to 1s or more", "the lifetime of Vault's tokens is too short: %v", v.TTL)
	case format == "pod" && v.Address == "":
		return hint.Errorf("set {option.address}", "the URL of Vault is missing: the Pod connects to it")
	}
	for _, p := range v.Policies {
		if err := match("policy", p, vaultPolicy, "letters, digits and characters of _./-"); err != nil {
			return err
		}
	}
	return errors.Join(
		match("path", v.Path, vaultPath, "the path of the mount without auth/, like jwt"),
		match("roleName", v.RoleName, vaultRole, "letters, digits and characters of _.-"),
		match("address", v.Address, httpAddress, "a URL like https://vault.example.com:8200"))
}

func (v *Vault) ready(format string) error {
	switch {
	case format == "pod":
	case v.KeysFrom == KeysJWKS && v.JWKSURI == "":
		return hint.Errorf("the issuer must be reachable, with a certificate of a known CA",
			"the jwks_uri of the issuer is not known")
	case v.Copied() && len(v.Keys) == 0:
		return errNoKeys
	}
	return nil
}

// Copied reports whether Vault has a copy of the keys.
func (v *Vault) Copied() bool { return v.KeysFrom == KeysCopy }

// Copy returns the name of that copy.
func (v *Vault) Copy() string { return shorten("vault-"+slug(v.Path, "-"), 63) }

// ShowCopy returns the command that shows Vault's copy.
func (v *Vault) ShowCopy() string { return "vault read -format=json auth/" + v.Path + "/config" }

// RoleLabel returns the name of the role in Terraform.
func (v *Vault) RoleLabel() string { return slug(v.RoleName, "_") }

// Seconds returns the TTL in seconds.
func (v *Vault) Seconds() int { return int(v.TTL / time.Second) }

// Config returns the configuration of the mount.
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

// Role returns the role, with which only the ServiceAccount can log in.
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

// TokenPolicies returns the policies, never nil: with null, an existing role would
// keep its own.
func (v *Vault) TokenPolicies() []string { return append([]string{}, v.Policies...) }
