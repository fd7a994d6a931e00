package secret_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/kube"
	"oidc-provider/internal/store/secret"
	"oidc-provider/rotation"
)

// check reports what is wrong with err, the error of a failed request.
func check(t *testing.T, doing string, err error, unavailable bool, want ...string) {
	t.Helper()
	if err == nil || errors.Is(err, rotation.ErrConflict) {
		t.Fatalf("%s: got %v", doing, err)
	}
	if errors.Is(err, rotation.ErrUnavailable) != unavailable {
		t.Errorf("%s: want ErrUnavailable: %v, got %v", doing, unavailable, err)
	}
	if hint.Of(err) == "" {
		t.Errorf("%s: no hint for %v", doing, err)
	}
	for _, want := range append(want, "keys/ring", "api.example:6443") {
		if text := hint.Text(err, hint.Field); !strings.Contains(text, want) {
			t.Errorf("%s: got %q, want %q in it", doing, text, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	terminating := apierrors.NewForbidden(secrets, "ring", errors.New("being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	tooLong := apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Secret").GroupKind(), "ring",
		field.ErrorList{field.TooLong(field.NewPath("data"), "", 1<<20)})
	for name, tt := range map[string]struct {
		status      *apierrors.StatusError
		unavailable bool
		want        string
	}{
		"401": {apierrors.NewUnauthorized("Unauthorized"), false, "credentials"},
		"403": {apierrors.NewForbidden(secrets, "ring", errors.New("no")), false,
			"oidc-provider keys rbac --store secret:keys/ring"},
		"terminating": {terminating, false, "the namespace is being deleted"},
		"413":         {apierrors.NewRequestEntityTooLargeError("limit is 3145728"), false, "at most 1024 KiB"},
		"422":         {tooLong, false, "at most 1024 KiB"},
		"429":         {apierrors.NewTooManyRequests("busy", 1), true, "busy"},
		"500":         {apierrors.NewInternalError(errors.New("etcd is unavailable")), true, "etcd is unavailable"},
		"503":         {apierrors.NewServiceUnavailable("starting"), true, "starting"},
		"504":         {apierrors.NewTimeoutError("slow", 1), true, "slow"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
				began := time.Now()
				v := swap(t, s, "one", "")
				refuse := func(method string) func(http.ResponseWriter, *http.Request) bool {
					return func(w http.ResponseWriter, r *http.Request) bool {
						if r.Method == method {
							w.Header().Set("Retry-After", "1")
							answer(w, nil, tt.status)
						}
						return r.Method == method
					}
				}
				a.intercept(refuse("GET"), nil)
				_, _, err := s.Load(t.Context())
				check(t, "Load", err, tt.unavailable, tt.want, "reading Secret")
				check(t, "Swap, reading", s.Swap(t.Context(), nil, v), tt.unavailable, tt.want, "reading Secret")
				a.intercept(refuse("PUT"), nil)
				check(t, "Swap", s.Swap(t.Context(), nil, v), tt.unavailable, tt.want, "writing Secret")
				a.put(nil)
				a.intercept(refuse("POST"), nil)
				check(t, "Swap, creating", s.Swap(t.Context(), nil, ""), tt.unavailable, tt.want, "creating Secret")
				if took := time.Since(began); took > 0 {
					t.Errorf("it waited for %v", took)
				}
			})
		})
	}
}

// The answer of a proxy says nothing about the Secret: above all, its 404 does not mean
// that the Secret does not exist.
func TestForeignAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		code        int
		contentType string
		body        string
		unavailable bool
	}{
		"404": {404, "text/plain", "404 page not found", false},
		"404 of API": {404, "application/json",
			`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`, false},
		"302":          {302, "text/html", "<a>", false},
		"502":          {502, "text/html", "<html>", true},
		"page":         {200, "text/html", "<html>", false},
		"nothing":      {200, "application/json", "", false},
		"empty":        {200, "application/json", "{}", false},
		"other object": {200, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Success"}`, false},
		"no UID": {200, "application/json",
			`{"kind":"Secret","apiVersion":"v1","metadata":{"name":"ring","namespace":"keys","resourceVersion":"1"}}`, false},
		"other Secret": {200, "application/json",
			`{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a","namespace":"keys","uid":"u","resourceVersion":"1"}}`, false},
		"other kind": {200, "application/json",
			`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"ring"},"data":{"ring.json":"c2VjcmV0"}}`, false},
		"other group": {200, "application/json",
			`{"kind":"Secret","apiVersion":"v2","data":{"ring.json":"c2VjcmV0"}}`, false},
		"list":       {200, "application/json", `[{"data":{"ring.json":"c2VjcmV0"}}]`, false},
		"wrong type": {200, "application/json", `{"kind":"Secret","apiVersion":"v1","data":["c2VjcmV0"]}`, false},
		"no base64": {200, "application/json",
			`{"kind":"Secret","apiVersion":"v1","metadata":{"name":"ring"},"data":{"ring.json":"!"}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
				a.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					w.Header().Set("Content-Type", tt.contentType)
					w.Header().Set("Location", "/")
					w.WriteHeader(tt.code)
					io.WriteString(w, tt.body)
					return true
				}, nil)
				_, _, err := s.Load(t.Context())
				check(t, "Load", err, tt.unavailable)
				for _, part := range []string{"<", "page", "c2VjcmV0", "secret"} {
					if strings.Contains(err.Error(), part) {
						t.Errorf("repeats the answer: %v", err)
					}
				}
				if err := s.Swap(t.Context(), []byte("one"), ""); err == nil || a.sent("POST") > 0 {
					t.Errorf("Swap: %v, sent %d", err, a.sent("POST"))
				}
			})
		})
	}
}

func TestTooLarge(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		check(t, "alone", s.Swap(t.Context(), make([]byte, corev1.MaxSecretSize+1), ""), false, "at most 1024 KiB")
		a.put(&corev1.Secret{Data: map[string][]byte{"other": make([]byte, 1000)}})
		check(t, "with others", s.Swap(t.Context(), make([]byte, corev1.MaxSecretSize-999), ""), false, "at most 1024 KiB")
		if n := a.sent("PUT") + a.sent("POST"); n > 0 {
			t.Errorf("sent %d times", n)
		}
		if err := s.Swap(t.Context(), make([]byte, corev1.MaxSecretSize-1000), ""); err != nil {
			t.Error(err)
		}
	})
}

func TestImmutable(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		a.put(&corev1.Secret{Immutable: new(true), Data: map[string][]byte{"ring.json": []byte("one")}})
		_, v := load(t, s)
		wantConflict(t, s, "")
		check(t, "Swap", s.Swap(t.Context(), []byte("two"), v), false, "immutable")
	})
}

// An answer without the ring that was sent is an error.
func TestChangedByWebhook(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		a.intercept(nil, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != "GET" {
				changed := a.get()
				changed.Data["ring.json"] = []byte("theirs")
				a.put(changed)
				answer(w, a.get(), nil)
			}
			return r.Method != "GET"
		})
		check(t, "Swap", s.Swap(t.Context(), []byte("one"), ""), false, "webhook")
	})
}

func TestNoNamespace(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, _ *secret.Store) {
		s, err := secret.New(a.cfg, "elsewhere", "ring")
		if err != nil {
			t.Fatal(err)
		}
		if _, v, err := s.Load(t.Context()); v != "" || err != nil {
			t.Errorf("Load: version %q, %v", v, err)
		}
		err = s.Swap(t.Context(), nil, "")
		if hint.Of(err) != "create it with `kubectl create namespace elsewhere`" {
			t.Errorf("Swap: %v", err)
		}
	})
}

// client-go must not write to stderr, whichever answers it gets.
func TestNothingOnStderr(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = w
	defer func() { os.Stderr = stderr }()
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		a.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Warning", `299 - "this API is old"`)
			if r.Method == "GET" {
				return false
			}
			w.Header().Set("Content-Length", "100") // the body is incomplete
			fmt.Fprint(w, "{")
			return true
		}, nil)
		load(t, s)
		check(t, "Swap", s.Swap(t.Context(), nil, ""), true)
	})
	t.Setenv("KUBECONFIG", "/nonexistent/config")
	kube.Config("", "")
	w.Close()
	if got, _ := io.ReadAll(r); len(got) > 0 {
		t.Errorf("stderr: %s", got)
	}
}
