#!/usr/bin/env python3
"""What write_masks wrote of random masks, judged by GDAL, OGR and SQLite. Needs python3-gdal and python3-numpy; skips, saying so, without."""
import json, os, random, shutil, sqlite3, subprocess, sys, tempfile, unittest, xml.etree.ElementTree

try:
    import numpy as np
    from osgeo import gdal, ogr, osr
    from osgeo_utils.samples import validate_cloud_optimized_geotiff, validate_gpkg
except ImportError as error:
    print(f"skipped: {error}"); sys.exit(77)

gdal.UseExceptions(); ogr.UseExceptions(); gdal.PushErrorHandler("CPLQuietErrorHandler")
WRITER = os.path.join(os.environ.get("GEOPIXEL_BIN", "build/bin"), "../tests/write_masks")
SEED = int(os.environ.get("GEOPIXEL_TEST_SEED", "0"), 0) or random.SystemRandom().randrange(1, 1 << 32)
print(f"seed: GEOPIXEL_TEST_SEED={SEED}")
rng = np.random.default_rng(SEED)

PALETTE = [(255, 138, 0), (0, 168, 255), (255, 225, 25), (235, 60, 140), (60, 220, 130), (150, 90, 255), (255, 95, 85), (70, 240, 240), (190, 235, 60), (240, 120, 245), (200, 140, 80), (120, 160, 255)]  # palette.h's


def system(text):
    s = osr.SpatialReference(); s.SetFromUserInput(text); s.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER); return s


class Base(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="geopixel-outputs-"); self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def place(self, srs=None, transform=None, points=None):
        path = self.path("place.tif"); dataset = gdal.GetDriverByName("GTiff").Create(path, 4, 4)
        if points: dataset.SetGCPs(points, system(srs).ExportToWkt())
        elif srs: dataset.SetProjection(system(srs).ExportToWkt())
        if transform: dataset.SetGeoTransform(transform)
        dataset = None; return path

    def write(self, count, width, height, place="-"):
        subprocess.run([WRITER, str(rng.integers(1, 1 << 40)), str(count), str(width), str(height), place, self.path("o")], check=True)
        return np.fromfile(self.path("o.raw"), np.uint8).reshape(count, height, width)

    @staticmethod
    def phrase(k, count):
        return f'a <lake> & "pond" {k} é' if k + 1 < count else None


class Rasters(Base):
    def test_masks(self):
        place = self.place("EPSG:32633", (3e5, 7, 3, 5e6, 2, -8))
        for count, width, height in ((0, 1, 1), (1, 7, 5), (3, 512, 512), (11, 513, 1025), (255, 40, 30), (256, 40, 30), (300, 61, 600), (5, 3000, 2000)):
            with self.subTest(count=count, width=width, height=height):
                masks = self.write(count, width, height, place); labels = np.zeros((height, width), np.uint16)
                for k in range(count): labels[masks[k] == 1] = k + 1
                dataset = gdal.Open(self.path("o.tif")); band = dataset.GetRasterBand(1)
                self.assertEqual(band.DataType, gdal.GDT_UInt16 if count > 255 else gdal.GDT_Byte); self.assertEqual(band.GetNoDataValue(), 0)
                np.testing.assert_array_equal(band.ReadAsArray(), labels)
                self.assertEqual(dataset.GetGeoTransform(), (3e5, 7, 3, 5e6, 2, -8)); self.assertEqual(dataset.GetSpatialRef().GetAuthorityCode(None), "32633")
                table = band.GetColorTable(); self.assertGreaterEqual(table.GetCount(), count + 1)
                self.assertEqual([table.GetColorEntry(k)[:3] for k in range(count + 1)], [(0, 0, 0)] + [PALETTE[k % 12] for k in range(count)])
                for k in range(count): self.assertEqual(dataset.GetMetadataItem(f"MASK_{k + 1}") or "", self.phrase(k, count) or "")
                bands = gdal.Open(self.path("o.bands.tif")); self.assertEqual(bands.RasterCount, max(count, 1))
                for k in range(count):
                    np.testing.assert_array_equal(bands.GetRasterBand(k + 1).ReadAsArray(), masks[k]); self.assertEqual(bands.GetRasterBand(k + 1).GetDescription(), self.phrase(k, count) or "")
                for one, name in [(band, "o.tif")] + [(bands.GetRasterBand(k + 1), "o.bands.tif") for k in (range(count) if count < 12 else (0, count - 1))]:
                    above = one.ReadAsArray()
                    for i in range(one.GetOverviewCount()):
                        below = one.GetOverview(i).ReadAsArray(); np.testing.assert_array_equal(below, above[::2, ::2]); above = below
                    self.assertLessEqual(max(above.shape), 512)
                    warnings, errors, _ = validate_cloud_optimized_geotiff.validate(self.path(name), full_check=True); self.assertEqual((warnings, errors), ([], []))

    def test_control_points_and_nothing(self):
        points = [gdal.GCP(10 + c, 47 - r, 5, c, r) for c, r in ((0, 0), (40, 0), (0, 30), (40, 30))]
        self.write(2, 40, 30, self.place("EPSG:4326", points=points)); dataset = gdal.Open(self.path("o.tif"))
        self.assertEqual([(p.GCPX, p.GCPY, p.GCPZ, p.GCPPixel, p.GCPLine) for p in dataset.GetGCPs()], [(p.GCPX, p.GCPY, p.GCPZ, p.GCPPixel, p.GCPLine) for p in points])
        self.assertEqual(dataset.GetGCPSpatialRef().GetAuthorityCode(None), "4326")
        self.write(2, 40, 30); dataset = gdal.Open(self.path("o.tif")); self.assertIsNone(dataset.GetSpatialRef()); self.assertIsNone(dataset.GetGeoTransform(can_return_null=True))


class Vectors(Base):
    def check(self, srs, transform, count=4, width=60, height=50, code=None):
        masks = self.write(count, width, height, self.place(srs, transform)); document = json.load(open(self.path("o.geojson")))
        package = ogr.Open(self.path("o.gpkg")); layer = package.GetLayerByName("masks"); self.assertEqual(layer.GetFeatureCount(), count)
        self.assertTrue(layer.GetSpatialRef().IsSame(system(srs), ["IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES", "CRITERION=EQUIVALENT"]))
        to_degrees = osr.CoordinateTransformation(system(srs), system("EPSG:4326"))
        for k, feature in enumerate(layer):
            properties = document["features"][k]["properties"]
            self.assertEqual([feature[n] for n in ("phrase", "mask", "area_px", "span_begin")], [self.phrase(k, count), k, int(masks[k].sum()), 10 * k if k + 1 < count else None])
            self.assertEqual([properties[n] for n in ("phrase", "mask", "area_px", "span")], [self.phrase(k, count), k, int(masks[k].sum()), [10 * k, 10 * k + 5] if k + 1 < count else None])
            self.assertAlmostEqual(feature["area_m2"] / properties["area_m2"] if properties["area_m2"] else 1, 1, places=9)
            geometry = feature.GetGeometryRef()
            if not masks[k].any(): self.assertIsNone(geometry); continue
            self.assertTrue(geometry.IsValid())
            target = gdal.GetDriverByName("MEM").Create("", width, height, 1); target.SetGeoTransform(transform)
            memory = ogr.GetDriverByName("Memory").CreateDataSource(""); one = memory.CreateLayer("one", None); f = ogr.Feature(one.GetLayerDefn()); f.SetGeometry(geometry); one.CreateFeature(f)
            gdal.RasterizeLayer(target, [1], one, burn_values=[1]); np.testing.assert_array_equal(target.ReadAsArray(), masks[k])
            world = ogr.CreateGeometryFromJson(json.dumps(document["features"][k]["geometry"])); self.assertTrue(world.IsValid())
            left, right, low, high = world.GetEnvelope(); self.assertTrue(-180 <= left and right <= 180 and -90 <= low and high <= 90)
            for polygon in document["features"][k]["geometry"]["coordinates"]:
                for n, ring in enumerate(polygon):
                    r = np.array(ring) - ring[0]; self.assertEqual((r[:-1, 0] * r[1:, 1] - r[1:, 0] * r[:-1, 1]).sum() > 0, n == 0); self.assertEqual(ring[0], ring[-1])
            yield masks[k], properties, world, geometry, to_degrees

    def validate_package(self):
        validate_gpkg.check(self.path("o.gpkg"), extra_checks=True, warning_as_error=False)
        with sqlite3.connect(self.path("o.gpkg")) as database:
            self.assertEqual(database.execute("PRAGMA integrity_check").fetchone()[0], "ok")
            style, = database.execute("SELECT styleQML FROM layer_styles WHERE f_table_name = 'masks' AND useAsDefault").fetchone()
            count, = database.execute("SELECT COUNT(*) FROM masks").fetchone(); boxes, = database.execute("SELECT COUNT(*) FROM rtree_masks_geom").fetchone(); shapes, = database.execute("SELECT COUNT(*) FROM masks WHERE geom NOT NULL").fetchone()
        categories = xml.etree.ElementTree.fromstring(style[style.index("<qgis"):]).findall(".//category"); self.assertEqual(len(categories), count); self.assertEqual(boxes, shapes)
        self.assertEqual([c.get("label") for c in categories], [self.phrase(k, count) or f"mask {k}" for k in range(count)])

    def test_projections(self):
        """Areas against a sphere-free reference: the sum of small pixels' ellipsoidal areas, by the scale of the equal-area projection EPSG:6933."""
        for srs, transform in (("EPSG:32633", (5e5, 10, 0, 5e6, 0, -10)), ("EPSG:32755", (3e5, 7, 3, 6e6, 2, -8)), ("EPSG:3857", (1e6, 30, 0, 6e6, 0, -30)), ("EPSG:4326", (20, .01, 0, -30, 0, -.01)),
                               ("+proj=lcc +lat_1=33 +lat_2=45 +lat_0=39 +lon_0=-96 +datum=WGS84", (1e5, 500, 0, 2e5, 0, -500)), ("EPSG:2193", (1.6e6, 10, 0, 5.4e6, 0, -10))):
            with self.subTest(srs):
                equal = osr.CoordinateTransformation(system(srs), system("EPSG:6933"))
                for mask, properties, world, geometry, to_degrees in self.check(srs, transform):
                    flat = geometry.Clone(); flat.Segmentize(max(abs(transform[1]), abs(transform[5])) / 4); flat.Transform(equal)
                    self.assertAlmostEqual(properties["area_m2"] / flat.Area(), 1, delta=1e-3)  # edges stray by a hundredth of a pixel at most, opposite ones mostly alike; a sphere would be off by 3e-3
                    true = geometry.Clone(); true.Segmentize(max(abs(transform[1]), abs(transform[5])) / 4); true.Transform(to_degrees)
                    self.assertLess(true.SymDifference(world).Area() / true.Area(), 0.02)
                self.validate_package()

    def test_antimeridian_and_poles(self):
        for srs, transform in (("EPSG:32660", (6.5e5, 4000, 0, 2e6, 0, -4000)), ("EPSG:32701", (1.5e5, 4000, 0, 6e6, 0, -4000)), ("EPSG:3832", (3e6, 2e4, 0, 1e6, 0, -2e4)), ("EPSG:3413", (-1.5e6, 5e4, 0, 1.2e6, 0, -5e4)),
                               ("EPSG:3031", (-1.4e6, 5e4, 0, 1.3e6, 0, -5e4))):
            with self.subTest(srs):
                equal = system("+proj=laea +lat_0=%d +lon_0=180 +datum=WGS84" % {"EPSG:3413": 90, "EPSG:3031": -90}.get(srs, 0))
                to_equal = osr.CoordinateTransformation(system(srs), equal)
                for mask, properties, world, geometry, to_degrees in self.check(srs, transform, count=6):
                    flat = geometry.Clone(); flat.Segmentize(transform[1] / 8); flat.Transform(to_equal)
                    strays = 2e-5 + 0.007 * geometry.Boundary().Length() / transform[1] / mask.sum()  # an edge strays by 0.01 pixel in its middle, by 2/3 of that in the mean
                    self.assertAlmostEqual(properties["area_m2"] / flat.Area(), 1, delta=strays)
                    # what was cut, taken to an equal-area plane again, has the same area
                    back = world.Clone(); back.Segmentize(0.05)
                    back.Transform(osr.CoordinateTransformation(system("EPSG:4326"), equal)); self.assertAlmostEqual(back.Area() / flat.Area(), 1, delta=1e-3 + strays)  # chords of 0.05 degrees beside that

    def test_whole_earth(self):
        """Scenes from pole to pole and all round: filled again in degrees the outlines are the mask; areas against the sum of pixels between their parallels."""
        e = (1 / 298.257223563 * (2 - 1 / 298.257223563)) ** 0.5
        zone = lambda s: 6378137 ** 2 * (1 - e * e) / 2 * (s / (1 - e * e * s * s) + np.arctanh(e * s) / e)  # m2 a radian, from the equator
        half = 20037508.342789244
        for srs, transform, roll in (("EPSG:4326", (-180, 5, 0, 90, 0, -4), 0), ("EPSG:4326", (0, 5, 0, 90, 0, -4), 36), ("EPSG:4326", (-180, 5, 0, 86, 0, -3.7), 0), ("EPSG:4326", (0, 5, 0, 80, 0, -3.5), 36), ("EPSG:3857", (-half, half / 36, 0, half, 0, -half / 22.5), 0)):
            with self.subTest(srs=srs, transform=transform):
                width, height = 72, 45; rows = transform[3] + np.arange(height + 1) * transform[5]
                edges = np.radians(rows) if srs == "EPSG:4326" else np.arctan(np.sinh(rows / 6378137))
                pixel = np.radians(5) * -np.diff(zone(np.sin(edges)))
                for mask, properties, world, geometry, to_degrees in self.check(srs, transform, count=18, width=width, height=height):
                    self.assertAlmostEqual(properties["area_m2"] / (mask * pixel[:, None]).sum(), 1, delta=1e-5)  # geodesics of 0.05 degrees run beside the parallels
                    if srs != "EPSG:4326": continue
                    target = gdal.GetDriverByName("MEM").Create("", width, height, 1); target.SetGeoTransform((-180,) + transform[1:])
                    memory = ogr.GetDriverByName("Memory").CreateDataSource(""); one = memory.CreateLayer("one", None); f = ogr.Feature(one.GetLayerDefn()); f.SetGeometry(world); one.CreateFeature(f)
                    gdal.RasterizeLayer(target, [1], one, burn_values=[1]); np.testing.assert_array_equal(target.ReadAsArray(), np.roll(mask, roll, axis=1))

    def test_no_place(self):
        masks = self.write(3, 50, 40); document = json.load(open(self.path("o.geojson"))); self.assertEqual(document["coordinates_are"], "pixels")
        for k, feature in enumerate(document["features"]):
            if not masks[k].any(): continue
            self.assertIsNone(feature["properties"]["area_m2"]); self.assertEqual(ogr.CreateGeometryFromJson(json.dumps(feature["geometry"])).Area(), masks[k].sum())
        package = ogr.Open(self.path("o.gpkg")); layer = package.GetLayerByName("masks")
        for k, feature in enumerate(layer):
            if masks[k].any(): self.assertEqual(feature.GetGeometryRef().Area(), masks[k].sum()); self.assertLessEqual(feature.GetGeometryRef().GetEnvelope()[3], 0)
        self.validate_package(); self.write(0, 50, 40); self.validate_package()

    def test_beyond_earth(self):
        """A full disk from above the equator, and degrees that go on beyond the poles: the package has all outlines, areas of what lies on Earth."""
        width, height = 60, 60
        for srs, transform in (("+proj=geos +h=35785831 +lon_0=0 +datum=WGS84", (-5568748, 185625, 0, 5568748, 0, -185625)), ("EPSG:4326", (-180, 6, 0, 120, 0, -4))):
            with self.subTest(srs):
                place = self.place(srs, transform); done = subprocess.run([WRITER, str(rng.integers(1, 1 << 40)), "30", str(width), str(height), place, self.path("o")], capture_output=True, text=True)
                self.assertIn("has no place on Earth", done.stderr); self.assertIn("o.geojson", done.stderr); self.assertNotIn("o.gpkg", done.stderr)
                masks = np.fromfile(self.path("o.raw"), np.uint8).reshape(30, height, width); kinds = set()
                corners = [(x, y) for y in range(height + 1) for x in range(width + 1)]
                places = [(transform[0] + x * transform[1], transform[3] + y * transform[5]) for x, y in corners]
                if srs.startswith("EPSG"): on_earth = np.array([abs(y) <= 90 for x, y in places]).reshape(height + 1, width + 1)
                else: on_earth = np.isfinite(osr.CoordinateTransformation(system(srs), system("EPSG:4326")).TransformPoints(places)).all(axis=1).reshape(height + 1, width + 1)
                layer = (package := ogr.Open(self.path("o.gpkg"))).GetLayerByName("masks"); self.assertEqual(layer.GetFeatureCount(), 30)
                for k, feature in enumerate(layer):
                    geometry = feature.GetGeometryRef()
                    if not masks[k].any(): self.assertIsNone(geometry); continue
                    self.assertAlmostEqual(geometry.Area() / abs(transform[1] * transform[5]) / masks[k].sum(), 1, places=9)
                    touched = np.zeros((height + 1, width + 1), bool)
                    for y in (0, 1):
                        for x in (0, 1): touched[y:height + y, x:width + x] |= masks[k] == 1
                    reaches_beyond = not on_earth[touched].all(); kinds.add(reaches_beyond)
                    if reaches_beyond: self.assertIsNone(feature["area_m2"])
                    else: self.assertGreater(feature["area_m2"], 0)
                self.assertIn(True, kinds); package = layer = feature = None; self.validate_package()


if __name__ == "__main__":
    unittest.main()
