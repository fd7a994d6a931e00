package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Where TestMain puts the programs that the tests start.
var (
	apiServerBinary string
	etcdBinary      string
	providerBinary  string
	pebbleBinary    string
	dnsBinary       string
	terraformBinary string
	standInBinary   string // of Terraform's providers
	vaultBinary     string
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Setenv("OIDC_PROVIDER_TRUST_CLOCK", "true") // the kernel of a sandbox does not confirm it
	if err := buildAll(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// buildAll builds into ./bin, not into a temporary directory: go build leaves
// an up-to-date file alone, which saves linking kube-apiserver at every run.
func buildAll() error {
	bin, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	apiServerBinary = filepath.Join(bin, "kube-apiserver")
	etcdBinary = filepath.Join(bin, "etcd")
	providerBinary = filepath.Join(bin, "oidc-provider")
	pebbleBinary = filepath.Join(bin, "pebble")
	dnsBinary = filepath.Join(bin, "pebble-challtestsrv")
	terraformBinary = filepath.Join(bin, "terraform")
	standInBinary = filepath.Join(bin, "terraform-provider")
	vaultBinary = filepath.Join(bin, "vault")

	if err := build("..", providerBinary, "./cmd/oidc-provider"); err != nil {
		return err
	}
	if err := build(".", etcdBinary, "./etcd"); err != nil {
		return err
	}
	if err := build(".", pebbleBinary, "github.com/letsencrypt/pebble/v2/cmd/pebble"); err != nil {
		return err
	}
	if err := build(".", dnsBinary, "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv"); err != nil {
		return err
	}
	if err := build("terraform", terraformBinary, "github.com/hashicorp/terraform"); err != nil {
		return err
	}
	if err := build("terraform", standInBinary, "./provider"); err != nil {
		return err
	}
	// A minimal Vault has the jwt auth method, and leaves out the clouds.
	if err := build("vault", vaultBinary, "github.com/hashicorp/vault", "-tags=minimal"); err != nil {
		return err
	}
	return build(".", apiServerBinary, "./kube-apiserver")
}

func build(module, output, pkg string, flags ...string) error {
	fmt.Fprintf(os.Stderr, "building %s\n", pkg)
	began := time.Now()
	args := append([]string{"build", "-C", module, "-o", output}, flags...)
	out, err := exec.Command("go", append(args, pkg)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	if took := time.Since(began); took > 5*time.Second {
		fmt.Fprintf(os.Stderr, "built %s in %s\n", pkg, took.Round(time.Second))
	}
	return nil
}
