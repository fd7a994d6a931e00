package trust

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// AWS is trust of AWS IAM: an identity provider, and a role that the
// ServiceAccount may assume.
type AWS struct {
	Facts
	RoleName string   // default NAMESPACE_SERVICEACCOUNT
	Account  string   // 12 digits; the commands take the one that they are run in
	Region   string   // of the Pod's requests
	Policies []string // ARNs of policies to attach to the role
	// Thumbprints are those of private CAs, see [Thumbprint]. IAM knows public
	// ones by itself.
	Thumbprints []string
}

// maxThumbprints is how many IAM takes for a provider.
const maxThumbprints = 5

var (
	awsRole       = regexp.MustCompile(`^[A-Za-z0-9_+=.@-]{1,64}$`)
	awsAccount    = regexp.MustCompile(`^[0-9]{12}$`)
	awsRegion     = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)
	awsPolicy     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/[A-Za-z0-9_+=,.@/-]{1,512}$`)
	awsThumbprint = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// Target implements [Setup].
func (a *AWS) Target() Target {
	return Target{"aws", []string{"cli", "terraform", "pod"}, "sts.amazonaws.com"}
}

func (a *AWS) fill(format string) error {
	if a.RoleName == "" {
		a.RoleName = shorten(a.account(), 64)
	}
	if format == "pod" && a.Account == "" {
		return errors.New("--account is required for a Pod, whose environment names the role with it (hint: `aws sts get-caller-identity --query Account --output text` prints it)")
	}
	for _, arn := range a.Policies {
		if err := match("policy-arn", arn, awsPolicy, "it looks like arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"); err != nil {
			return err
		}
	}
	for _, t := range a.Thumbprints {
		if err := match("thumbprint", t, awsThumbprint, "it is a SHA-1 in 40 small hexadecimal digits"); err != nil {
			return err
		}
	}
	if n := len(a.Thumbprints); n > maxThumbprints {
		return fmt.Errorf("%d thumbprints: AWS IAM takes at most %d", n, maxThumbprints)
	}
	// The aws command reads such a value from a file.
	if strings.HasPrefix(a.Audience, "file://") || strings.HasPrefix(a.Audience, "fileb://") {
		return fmt.Errorf("--audience %q: the aws command would read it from a file", a.Audience)
	}
	return errors.Join(
		a.needHTTPS("AWS IAM"),
		match("role-name", a.RoleName, awsRole, "a role has at most 64 letters, digits and characters of _+=.@-"),
		match("account", a.Account, awsAccount, "an account has 12 digits"),
		match("region", a.Region, awsRegion, "a region looks like eu-central-1"))
}

// Condition begins the names of the provider's condition keys, and ends its ARN.
func (a *AWS) Condition() string { return a.host() }

// AudienceIsURL reports whether version 1 of the aws command would fetch the
// audience and take what it gets there instead. It leaves JSON alone.
func (a *AWS) AudienceIsURL() bool {
	return strings.HasPrefix(a.Audience, "http://") || strings.HasPrefix(a.Audience, "https://")
}

// ClientID and ClientIDList are the audience as parameters in JSON.
func (a *AWS) ClientID() (string, error) {
	data, err := json.Marshal(map[string]string{"ClientID": a.Audience})
	return string(data), err
}

func (a *AWS) ClientIDList() (string, error) {
	data, err := json.Marshal(map[string][]string{"ClientIDList": {a.Audience}})
	return string(data), err
}

// RoleLabel is what the role is called in Terraform.
func (a *AWS) RoleLabel() string { return slug(a.RoleName, "_") }

// Description tells our role from one that somebody else has made.
func (a *AWS) Description() string {
	return shorten(a.Subject()+" of "+a.Issuer.String(), 1000)
}

// RoleARN is where the Pod finds the role.
func (a *AWS) RoleARN() string {
	partition := "aws"
	switch {
	case strings.HasPrefix(a.Region, "cn-"):
		partition = "aws-cn"
	case strings.HasPrefix(a.Region, "us-gov-"):
		partition = "aws-us-gov"
	}
	return "arn:" + partition + ":iam::" + a.Account + ":role/" + a.RoleName
}

type awsStatement struct {
	Effect    string
	Principal struct{ Federated string }
	Action    string
	Condition struct{ StringEquals map[string]string }
}

// ShellPolicy is the policy for a here-document in which the shell puts the
// provider in. No string of JSON has a quotation mark as it is, so there is
// only one place for it.
func (a *AWS) ShellPolicy() (string, error) {
	policy, err := toJSON(a.policy())
	return strings.Replace(heredoc(policy), `"Federated": ""`, `"Federated": "$provider"`, 1), err
}

// policy lets the ServiceAccount and nobody else assume the role. Its principal
// is empty.
func (a *AWS) policy() any {
	s := awsStatement{Effect: "Allow", Action: "sts:AssumeRoleWithWebIdentity"}
	s.Condition.StringEquals = map[string]string{
		a.Condition() + ":aud": a.Audience,
		a.Condition() + ":sub": a.Subject(),
	}
	return struct {
		Version   string
		Statement []awsStatement
	}{"2012-10-17", []awsStatement{s}}
}

// Thumbprint is what IAM knows a server with a private CA by: the SHA-1 of the
// last certificate of the chain that it sends.
func Thumbprint(chain []*x509.Certificate) string {
	if len(chain) == 0 {
		return ""
	}
	sum := sha1.Sum(chain[len(chain)-1].Raw)
	return hex.EncodeToString(sum[:])
}
