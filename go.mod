module oidc-provider

go 1.26

require (
	github.com/go-jose/go-jose/v4 v4.1.8
	github.com/gofrs/flock v0.13.1
	github.com/google/go-cmp v0.7.0
	github.com/robfig/cron/v3 v3.0.1
	pgregory.net/rapid v1.3.0
)

require golang.org/x/sys v0.47.0 // indirect
