// Package e2e tests oidc-provider as its users run it: the built program signs
// for a real kube-apiserver over a real etcd, and real relying parties verify.
//
// It is a module of its own, so that Kubernetes' many requirements stay out of
// the program's go.mod:
//
//	cd e2e && go test -timeout 60m .
//
// The first run compiles kube-apiserver, Vault and Terraform, which takes a
// quarter of an hour; later runs take them from the build cache. [TestTrustAWS]
// wants the aws command and moto, an emulator of AWS written in Python, and is
// skipped where they are not installed. Set E2E_ARTIFACTS to a directory to keep
// the logs of every process, and E2E_SEED to repeat the moments of
// [TestKilledAtRandom] and the faults of [TestReplicas]. E2E_EARLIER is a program of
// an earlier version, with which [TestUpgradeUnderLoad] begins.
package e2e
