# Each verb is a small script in ci/, so make is a convenience only. Arguments:
#   ci/fuzz 10s Parse    ci/mutate "retired keys"    ci/e2e TestTrustVault
verbs = test race simulate lint e2e fuzz mutate bench compare-nginx vulncheck

.PHONY: all docs $(verbs)
all: test lint

$(verbs):
	@ci/$@

# Writes the generated pages: docs/cli.md and docs/config.md.
docs:
	go test ./cmd/oidc-provider -run '^TestGeneratedDocs$$' -update
