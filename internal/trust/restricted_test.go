package trust_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// TestPodsAreRestricted asks the code of the admission controller whether every
// Pod passes the Pod Security Standard "restricted".
func TestPodsAreRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	allowed := func(pod *corev1.Pod) policy.AggregateCheckResult {
		return policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
	}
	bare := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "trial"}}}}
	if allowed(bare).Allowed {
		t.Fatal("a Pod without settings is allowed: this test proves nothing")
	}
	for name, w := range wanted(t) {
		if !slices.Contains(w.formats, "pod") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			documents := strings.Split(render(t, w.setup, "pod"), "\n---\n")
			var pod corev1.Pod
			if err := yaml.UnmarshalStrict([]byte(documents[len(documents)-1]), &pod); err != nil || pod.Kind != "Pod" {
				t.Fatalf("the last document is a %q: %v", pod.Kind, err)
			}
			if result := allowed(&pod); !result.Allowed {
				t.Errorf("not allowed: %s: %s", result.ForbiddenReason(), result.ForbiddenDetail())
			}
			// An image that runs as root would not start without it.
			if pod.Spec.SecurityContext.RunAsUser == nil || *pod.Spec.SecurityContext.RunAsUser == 0 {
				t.Error("the Pod has no user of its own")
			}
		})
	}
}
