package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"oidc-provider/internal/hint"
)

// AWS is trust of AWS IAM: an identity provider, and a role that the
// ServiceAccount may assume.
type AWS struct {
	Facts
	RoleName string   // default NAMESPACE_SERVICEACCOUNT
	Account  string   // 12 digits; default the one in which the commands run
	Region   string   // of the Pod's requests
	Policies []string // ARNs of policies to attach to the role
	// Thumbprints of private CAs, see [Thumbprint]. IAM knows the public CAs.
	Thumbprints []string
}

// maxThumbprints is how many IAM accepts for a provider.
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
		return hint.Errorf("set {option.account}; `aws sts get-caller-identity --query Account --output text` prints it",
			"the AWS account is missing: the Pod's environment needs it to name the role")
	}
	for _, arn := range a.Policies {
		const form = "an ARN like arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
		if err := match("policyArn", arn, awsPolicy, form); err != nil {
			return err
		}
	}
	if n := len(a.Thumbprints); n > maxThumbprints {
		return fmt.Errorf("%d thumbprints: AWS IAM accepts at most %d", n, maxThumbprints)
	}
	for _, t := range a.Thumbprints {
		if !awsThumbprint.MatchString(t) {
			return fmt.Errorf("thumbprint %q: want a SHA-1 in 40 lower case hexadecimal digits", t)
		}
	}
	// The aws command would read such a value from a file.
	if strings.HasPrefix(a.Audience, "file://") || strings.HasPrefix(a.Audience, "fileb://") {
		return hint.Errorf("choose another {option.audience}", "audience %q: the aws command would read it from a file",
			a.Audience)
	}
	return errors.Join(
		a.needHTTPS("AWS IAM"),
		match("roleName", a.RoleName, awsRole, "at most 64 letters, digits and characters of _+=.@-"),
		match("account", a.Account, awsAccount, "12 digits"),
		match("region", a.Region, awsRegion, "a region like eu-central-1"))
}

// Condition returns the prefix of the provider's condition keys, which is also
// the end of its ARN.
func (a *AWS) Condition() string { return a.host() }

// AudienceIsURL reports whether version 1 of the aws command would fetch the
// audience and use what it gets there instead. It does not do that in JSON.
func (a *AWS) AudienceIsURL() bool {
	return strings.HasPrefix(a.Audience, "http://") || strings.HasPrefix(a.Audience, "https://")
}

// ClientID returns the audience as a parameter in JSON.
func (a *AWS) ClientID() (string, error) {
	data, err := json.Marshal(map[string]string{"ClientID": a.Audience})
	return string(data), err
}

// ClientIDList returns the audience as a list parameter in JSON.
func (a *AWS) ClientIDList() (string, error) {
	data, err := json.Marshal(map[string][]string{"ClientIDList": {a.Audience}})
	return string(data), err
}

// RoleLabel returns the name of the role in Terraform.
func (a *AWS) RoleLabel() string { return slug(a.RoleName, "_") }

// Description returns the text that identifies our role among others.
func (a *AWS) Description() string {
	return shorten(a.Subject()+" of "+a.Issuer.String(), 1000)
}

// RoleARN returns the ARN of the role, for the Pod.
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

// ShellPolicy returns the policy for a here-document, into which the shell
// inserts the provider. Strings in JSON escape quotation marks, so only one place
// matches.
func (a *AWS) ShellPolicy() (string, error) {
	policy, err := toJSON(a.policy())
	return strings.Replace(heredoc(policy), `"Federated": ""`, `"Federated": "$provider"`, 1), err
}

// policy allows only the ServiceAccount to assume the role. Its principal is
// empty.
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
