package e2e

import (
	"bytes"
	"io"
	"net/http"
	"sync/atomic"
)

// persistentClient repeats requests that got no whole answer. A relying party
// that finds the port closed has an outage, which it can wait out; a token that
// it rejects is lost. Only the second is what the test looks for.
func persistentClient(client *http.Client, refusals *atomic.Int64) *http.Client {
	return &http.Client{Transport: persistent{client.Transport, refusals}, Timeout: 2 * recovery}
}

// persistent is the http.RoundTripper of a client that waits out an outage.
type persistent struct {
	next     http.RoundTripper
	refusals *atomic.Int64
}

func (p persistent) RoundTrip(request *http.Request) (*http.Response, error) {
	var response *http.Response
	err := persist(request.Context(), recovery, func() (err error) {
		if response, err = p.next.RoundTrip(request); err == nil {
			// The answer counts once all of it is here: a kill may cut it short.
			var body []byte
			body, err = io.ReadAll(response.Body)
			response.Body.Close()
			response.Body = io.NopCloser(bytes.NewReader(body))
		}
		if err != nil {
			response = nil
			p.refusals.Add(1)
		}
		return err
	})
	return response, err
}
