package trust

// Generic is trust of any relying party: what it must know, in words and in Go.
type Generic struct{ Facts }

// Target implements [Setup].
func (g *Generic) Target() Target { return Target{"generic", []string{"text", "pod"}, ""} }

func (g *Generic) fill(string) error { return g.needAudience() }
