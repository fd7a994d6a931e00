# Each verb is a small script in ci/, so make is a convenience only. Arguments:
#   ci/fuzz 10s Parse    ci/mutate "retired keys"    ci/e2e TestTrustVault
verbs = test race simulate lint e2e fuzz mutate bench compare-nginx vulncheck

.PHONY: all $(verbs)
all: test lint

$(verbs):
	@ci/$@
