package web

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"

	"oidc-provider/discovery"
	"oidc-provider/jwks"
)

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// renderPage returns the page that people see when they open the issuer's URL.
func renderPage(issuer discovery.Issuer, keys []jwks.PublicKey) ([]byte, error) {
	var page bytes.Buffer
	err := pageTemplate.Execute(&page, map[string]any{
		"Issuer": issuer.String(), "Discovery": issuer.DiscoveryURL(), "JWKS": issuer.JWKSURI(), "Keys": keys,
	})
	if err != nil {
		return nil, fmt.Errorf("rendering the page: %w", err)
	}
	return page.Bytes(), nil
}

func pagePaths(issuer discovery.Issuer) []string {
	u := issuer.URL()
	base := strings.TrimSuffix(u.Path, "/")
	if base == "" {
		return []string{"/"}
	}
	return []string{base, base + "/"}
}
