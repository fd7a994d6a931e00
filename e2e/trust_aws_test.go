package e2e

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An awsCloud is moto, an emulator of AWS. It keeps what it is told, and
// validates what IAM would: names, ARNs, the form of policies. It looks at no
// token.
type awsCloud struct {
	lab *lab
	env []string // for the aws command
}

const awsAccount = "123456789012" // moto's only one

// newAWS needs two programs that are written in Python: aws, and moto.
func (l *lab) newAWS() *awsCloud {
	l.t.Helper()
	_, err := exec.LookPath("aws")
	if err == nil {
		_, err = l.execute(exec.CommandContext(l.t.Context(), "python3", "-c", "import moto.server"), "")
	}
	if err != nil {
		what := fmt.Sprintf("%v\n(hint: pip install awscli 'moto[server]')", err)
		if os.Getenv("CI") != "" {
			l.t.Fatal(what)
		}
		l.t.Skip(what)
	}
	listen := l.freePort()
	moto := l.startChildEnv([]string{"MOTO_IAM_LOAD_MANAGED_POLICIES=true"}, "moto",
		"python3", filepath.Join("moto", "server.py"), "-H", "127.0.0.1", "-p", strconv.Itoa(listen))
	cloud := &awsCloud{lab: l, env: []string{
		"AWS_ENDPOINT_URL=http://" + address(listen),
		"AWS_ACCESS_KEY_ID=e2e", "AWS_SECRET_ACCESS_KEY=e2e", "AWS_DEFAULT_REGION=eu-central-1",
		"AWS_CONFIG_FILE=" + l.path("aws-config"), "AWS_SHARED_CREDENTIALS_FILE=" + l.path("aws-credentials"),
	}}
	moto.awaitReady(60*time.Second, func() error { return expectOK(http.DefaultClient, "http://"+address(listen)+"/moto-api/") })
	return cloud
}

// do runs an aws command.
func (a *awsCloud) do(args ...string) string {
	a.lab.t.Helper()
	cmd := exec.CommandContext(a.lab.t.Context(), "aws", append(args, "--output", "json")...)
	out, err := a.lab.execute(cmd, "", a.env...)
	if err != nil {
		a.lab.t.Fatal(err)
	}
	return out
}

// get decodes what an aws command answers.
func (a *awsCloud) get(answer any, args ...string) {
	a.lab.t.Helper()
	out := a.do(args...)
	if err := json.Unmarshal([]byte(out), answer); err != nil {
		a.lab.t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// An awsProvider is an identity provider, as IAM answers it.
type awsProvider struct {
	URL         string   `json:"Url"`
	Audiences   []string `json:"ClientIDList"`
	Thumbprints []string `json:"ThumbprintList"`
}

func (a *awsCloud) wantProvider(want awsProvider) {
	a.lab.t.Helper()
	var got awsProvider
	a.get(&got, "iam", "get-open-id-connect-provider", "--open-id-connect-provider-arn", awsProviderARN)
	slices.Sort(got.Audiences)
	if !reflect.DeepEqual(got, want) {
		a.lab.t.Errorf("the provider is %+v, want %+v", got, want)
	}
}

const awsProviderARN = "arn:aws:iam::" + awsAccount + ":oidc-provider/" + publicHost

type awsRole struct {
	Arn, Description string
	Trust            any `json:"AssumeRolePolicyDocument"`
}

func (a *awsCloud) role(name string) awsRole {
	a.lab.t.Helper()
	var answer struct{ Role awsRole }
	a.get(&answer, "iam", "get-role", "--role-name", name)
	return answer.Role
}

// wantTrust checks that a role lets the tests' ServiceAccount, and nobody else,
// assume it with a token for this audience.
func (a *awsCloud) wantTrust(role awsRole, audience string) {
	a.lab.t.Helper()
	want := any(map[string]any{
		"Version": "2012-10-17",
		"Statement": []any{map[string]any{
			"Effect":    "Allow",
			"Principal": map[string]any{"Federated": awsProviderARN},
			"Action":    "sts:AssumeRoleWithWebIdentity",
			"Condition": map[string]any{"StringEquals": map[string]any{
				publicHost + ":aud": audience,
				publicHost + ":sub": subject,
			}},
		}},
	})
	if !reflect.DeepEqual(role.Trust, want) {
		a.lab.t.Errorf("the role %s trusts %v, want %v", role.Arn, role.Trust, want)
	}
}

// TestTrustAWS runs what is printed for AWS with the real aws command, several
// times, and looks at what is there then.
func TestTrustAWS(t *testing.T) {
	lab := newLab(t)
	cloud := lab.newAWS()
	p, connectTo := lab.newPublicProvider()
	p.init()
	p.start()
	script := func(flags ...string) string {
		return p.trust("aws", append(append(flags, "--ca-file", lab.ca.caFile), connectTo...)...)
	}

	// Another account is left alone.
	_, err := lab.bash(script("--account", "999999999999"), cloud.env...)
	wantFailure(t, "in another account", err, awsAccount)
	var all struct{ OpenIDConnectProviderList []any }
	if cloud.get(&all, "iam", "list-open-id-connect-providers"); len(all.OpenIDConnectProviderList) > 0 {
		t.Errorf("in another account it has made %v", all)
	}

	testAWSTwice(t, cloud, script("--role-name", "till", "--policy-arn", awsReadOnly))

	// A second role has an audience of its own, which aws would ask for a
	// document, and there is a new CA by then.
	const odd = "https://example.test/?a=b&c='d'"
	cloud.do("iam", "update-open-id-connect-provider-thumbprint",
		"--open-id-connect-provider-arn", awsProviderARN, "--thumbprint-list", strings.Repeat("0", 40))
	if _, err := lab.bash(script("--audience", odd), cloud.env...); err != nil {
		t.Fatal(err)
	}
	cloud.wantProvider(awsProvider{publicHost, []string{odd, "sts.amazonaws.com"}, []string{lab.ca.thumbprint(t)}})
	cloud.wantTrust(cloud.role(namespace+"_"+serviceAccount), odd)
	cloud.wantTrust(cloud.role("till"), "sts.amazonaws.com")

	// An account that is new to us has that audience from the beginning.
	cloud.do("iam", "delete-open-id-connect-provider", "--open-id-connect-provider-arn", awsProviderARN)
	if _, err := lab.bash(script("--audience", odd), cloud.env...); err != nil {
		t.Fatal(err)
	}
	cloud.wantProvider(awsProvider{publicHost, []string{odd}, []string{lab.ca.thumbprint(t)}})

	// A role that has its name from somebody else stays as it is.
	cloud.do("iam", "create-role", "--role-name", "theirs", "--assume-role-policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)
	before := cloud.role("theirs")
	_, err = lab.bash(script("--role-name", "theirs"), cloud.env...)
	wantFailure(t, "a role of somebody else", err, "There is a role theirs already")
	if after := cloud.role("theirs"); !reflect.DeepEqual(after, before) {
		t.Errorf("the role of somebody else is %+v now, was %+v", after, before)
	}
	p.stop()
}

const awsReadOnly = "arn:aws:iam::aws:policy/ReadOnlyAccess"

// testAWSTwice finds the same after the first run and after the second.
func testAWSTwice(t *testing.T, cloud *awsCloud, script string) {
	t.Helper()
	for range 2 {
		out, err := cloud.lab.bash(script, cloud.env...)
		if err != nil {
			t.Fatal(err)
		}
		role := cloud.role("till")
		if out != role.Arn+"\n" {
			t.Errorf("printed %q, want the role %s", out, role.Arn)
		}
		cloud.wantTrust(role, "sts.amazonaws.com")
		cloud.wantProvider(awsProvider{publicHost, []string{"sts.amazonaws.com"}, []string{cloud.lab.ca.thumbprint(t)}})
		var attached struct {
			AttachedPolicies []struct{ PolicyArn string }
		}
		cloud.get(&attached, "iam", "list-attached-role-policies", "--role-name", "till")
		if len(attached.AttachedPolicies) != 1 || attached.AttachedPolicies[0].PolicyArn != awsReadOnly {
			t.Errorf("policies %v are attached, want %s", attached.AttachedPolicies, awsReadOnly)
		}
	}
}

// thumbprint is what AWS knows the CA by.
func (a *authority) thumbprint(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(a.caFile)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	sum := sha1.Sum(block.Bytes)
	return hex.EncodeToString(sum[:])
}
