package main

import (
	"regexp"
	"strings"
)

// flagNames are the flags for the settings of a configuration file that hints
// name: see package hint.
var flagNames = map[string]string{
	"store":             "--store",
	"issuer":            "--issuer",
	"etcd.caFile":       "--etcd-ca-file",
	"etcd.certFile":     "--etcd-cert-file",
	"etcd.keyFile":      "--etcd-key-file",
	"etcd.user":         "--etcd-user",
	"etcd.passwordFile": "--etcd-password-file",
	"etcd.insecure":     "--etcd-insecure",
	"kubeconfig":        "--kubeconfig",
	"context":           "--context",
	"ageIdentities":     "--age-identity",
	"kmsSocket":         "--kms-socket",
	"ringSigners":       "--ring-signer",
	"allowUnsignedRing": "--allow-unsigned-ring",
	"signerSocket":      "--signer-socket",
	"signerSocketMode":  "--signer-socket-mode",
	"signerSocketGroup": "--signer-socket-group",
	"signerUIDs":        "--signer-uid",
	"publishOnly":       "--publish-only",
	"witnesses":         "--witness",
	"witnessCAFile":     "--witness-ca-file",
	"rollbackState":     "--rollback-state",
	"trustClock":        "--trust-clock",
	"listen":            "--listen",
	"adminListen":       "--admin-listen",
	"tls.certFile":      "--tls-cert",
	"tls.keyFile":       "--tls-key",

	"policy.schedule":         "--schedule",
	"policy.algorithm":        "--algorithm",
	"policy.rsaBits":          "--rsa-bits",
	"policy.publishAhead":     "--publish-ahead",
	"policy.maxTokenLifetime": "--max-token-lifetime",
	"policy.clockSkew":        "--clock-skew",
}

// flagName returns the flag for a setting, or the setting itself if only a
// configuration file has it. {option.caFile} is --ca-file, of commands whose
// options no configuration file has.
func flagName(field string) string {
	if option, ok := strings.CutPrefix(field, "option."); ok {
		return "--" + strings.ToLower(upperCase.ReplaceAllString(option, "-$0"))
	}
	if flag, ok := flagNames[field]; ok {
		return flag
	}
	return field
}

var upperCase = regexp.MustCompile(`[A-Z]`)
