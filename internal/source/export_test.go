package source

// MapsLayersOn is mapsLayersOn.
func MapsLayersOn(release string) error { return mapsLayersOn(release) }
