#!/usr/bin/env python3
"""run on rasters of every kind: what it writes lies where its scene lies, judged by GDAL and OGR. Needs python3-gdal and python3-numpy; skips, saying
so, without. GEOPIXEL_BIN: the program's folder; GEOPIXEL_SHARED: the samples, where they are."""
import json, os, random, shutil, subprocess, sys, tempfile, unittest

try:
    import numpy as np
    from osgeo import gdal, ogr, osr
    from osgeo_utils.samples import validate_cloud_optimized_geotiff
except ImportError as error:
    print(f"skipped: {error}"); sys.exit(77)

import test_program

gdal.UseExceptions(); ogr.UseExceptions(); gdal.PushErrorHandler("CPLQuietErrorHandler")
BIN = os.environ.get("GEOPIXEL_BIN", "build/bin")
SAMPLES = os.path.join(os.environ.get("GEOPIXEL_SHARED", "../shared"), "samples")
MODEL = os.path.join(BIN, "../tests/random_model")
SEED = int(os.environ.get("GEOPIXEL_TEST_SEED", "0"), 0) or random.SystemRandom().randrange(1, 1 << 32)
print(f"seed: GEOPIXEL_TEST_SEED={SEED}")
rng = np.random.default_rng(SEED)


def system(text):
    s = osr.SpatialReference(); s.SetFromUserInput(text); s.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER); return s


def decode_mask(rle):
    """COCO's compressed run lengths to [height, width]."""
    return np.array(test_program.decode_rle(rle), np.uint8).reshape(rle["size"][1], rle["size"][0]).T


class Base(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="geopixel-rasters-"); self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def run_program(self, scene, *extra, code=0):
        done = subprocess.run([os.path.join(BIN, "geopixel"), "run", scene, "--model", MODEL, "--prompt", "Describe the scene.", "--crops", "1", *map(str, extra)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def run_all(self, scene, *extra):
        """Everything that run writes about a scene, the masks as arrays."""
        names = {"--masks": "m.tif", "--geojson": "m.geojson", "--gpkg": "m.gpkg", "--overlay": "m.png", "--json": "m.json"}
        arguments = [part for option, name in names.items() for part in (option, self.path(name))]
        done = self.run_program(scene, *arguments, *extra)
        answer = json.load(open(self.path("m.json")))
        return done, answer, [decode_mask(mask["rle"]) for mask in answer["masks"]]

    def make(self, name, array, transform=None, srs=None, points=None, nodata=None, options=(), type_=None, mask=None):
        path = self.path(name); array = np.atleast_3d(array.T).T if array.ndim == 2 else array
        types = {"uint8": gdal.GDT_Byte, "uint16": gdal.GDT_UInt16, "int16": gdal.GDT_Int16, "float32": gdal.GDT_Float32}
        dataset = gdal.GetDriverByName("GTiff").Create(path, array.shape[2], array.shape[1], array.shape[0], types[array.dtype.name], list(options))
        if points: dataset.SetGCPs(points, system(srs).ExportToWkt())
        elif srs: dataset.SetProjection(system(srs).ExportToWkt())
        if transform: dataset.SetGeoTransform(transform)
        for b in range(array.shape[0]):
            if nodata is not None: dataset.GetRasterBand(b + 1).SetNoDataValue(nodata)
            dataset.GetRasterBand(b + 1).WriteArray(array[b])
        if mask is not None:
            gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", "YES"); dataset.CreateMaskBand(gdal.GMF_PER_DATASET); dataset.GetRasterBand(1).GetMaskBand().WriteArray(mask)
        dataset = None
        return path

    def check(self, scene, *extra, window=None):
        done, answer, masks = self.run_all(scene, *extra)
        source = gdal.Open(scene); x, y, width, height = window or (0, 0, source.RasterXSize, source.RasterYSize)
        result = gdal.Open(self.path("m.tif"))
        self.assertEqual((result.RasterXSize, result.RasterYSize), (width, height))
        # where the scene lies, moved to the window
        t = list(source.GetGeoTransform(can_return_null=True) or ())
        if t: t[0] += x * t[1] + y * t[2]; t[3] += x * t[4] + y * t[5]
        have = result.GetGeoTransform(can_return_null=True)
        if t: np.testing.assert_allclose(have, t, rtol=1e-14, atol=1e-9)
        else: self.assertIsNone(have)
        points = lambda d, dx=0, dy=0: [(p.GCPPixel - dx, p.GCPLine - dy, p.GCPX, p.GCPY, p.GCPZ) for p in d.GetGCPs()]
        np.testing.assert_allclose(points(result), points(source, x, y), rtol=1e-14)
        srs = source.GetSpatialRef() or source.GetGCPSpatialRef(); theirs = result.GetSpatialRef() or result.GetGCPSpatialRef()
        if srs is None: self.assertIsNone(theirs)
        else: self.assertTrue(theirs.IsSame(srs), theirs.ExportToWkt())
        # labels are the masks, the later over the earlier
        want = np.zeros((height, width), np.uint16)
        for k, mask in enumerate(masks): want[mask == 1] = k + 1
        np.testing.assert_array_equal(result.GetRasterBand(1).ReadAsArray(), want)
        warnings, errors, _ = validate_cloud_optimized_geotiff.validate(self.path("m.tif"), full_check=True); self.assertEqual((warnings, errors), ([], []))
        self.check_geojson(answer, masks, source, srs if t or points(source) else None, (x, y, width, height))
        self.check_geopackage(answer, masks, result, srs if t or points(source) else None)
        return done, answer, masks

    def features(self, path):
        dataset = ogr.Open(path); layer = dataset.GetLayer(0)
        return dataset, layer, [f for f in layer]

    def check_geojson(self, answer, masks, source, srs, window):
        document = json.load(open(self.path("m.geojson"))); self.assertEqual(document["type"], "FeatureCollection")
        self.assertEqual(document["coordinates_are"], "WGS 84" if srs else "pixels")
        self.assertEqual(len(document["features"]), len(masks))
        if not masks: return
        _, layer, features = self.features(self.path("m.geojson")); self.assertEqual(layer.GetFeatureCount(), len(masks))
        bounds = self.bounds(source, srs, window)
        for k, feature in enumerate(document["features"]):
            properties = feature["properties"]; phrase = next((p for p in answer["phrases"] if p["mask"] == k), None)
            self.assertEqual((properties["mask"], properties["area_px"], properties["phrase"]), (k, int(masks[k].sum()), phrase and phrase["phrase"]))
            self.assertEqual(properties["span"], phrase and phrase["span"]); self.assertAlmostEqual(properties["score"], answer["masks"][k]["score"], places=5)
            geometry = features[k].GetGeometryRef()
            if not masks[k].any(): self.assertIsNone(feature["geometry"]); continue
            self.assertTrue(geometry.IsValid())
            left, right, low, high = geometry.GetEnvelope()
            self.assertTrue(left >= bounds[0] - 1e-7 and right <= bounds[1] + 1e-7 and low >= bounds[2] - 1e-7 and high <= bounds[3] + 1e-7, (geometry.GetEnvelope(), bounds))
            if srs:
                for polygon in feature["geometry"]["coordinates"]:
                    for n, ring in enumerate(polygon):
                        r = np.array(ring); area = (r[:-1, 0] * r[1:, 1] - r[1:, 0] * r[:-1, 1]).sum(); self.assertEqual(area > 0, n == 0, "outer rings run counter-clockwise"); self.assertEqual(ring[0], ring[-1])
                self.assertGreater(properties["area_m2"], 0)
            else: self.assertIsNone(properties["area_m2"])

    @staticmethod
    def bounds(source, srs, window):
        x, y, width, height = window
        if srs is None: return x * 0, width, 0, height
        edge = [(x + width * a, y + height * b) for a in np.linspace(0, 1, 200) for b in (0, 1)] + [(x + width * a, y + height * b) for b in np.linspace(0, 1, 200) for a in (0, 1)]
        srs = srs.Clone(); srs.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER); transformer = gdal.Transformer(source, None, [])
        degrees = np.array(osr.CoordinateTransformation(srs, system("EPSG:4326")).TransformPoints([transformer.TransformPoint(0, *map(float, e))[1][:2] for e in edge]))
        return degrees[:, 0].min(), degrees[:, 0].max(), degrees[:, 1].min(), degrees[:, 1].max()

    def check_geopackage(self, answer, masks, raster, srs):
        """Each feature, filled again upon the scene's grid, is the mask."""
        dataset, layer, features = self.features(self.path("m.gpkg")); self.assertEqual((layer.GetName(), len(features)), ("masks", len(masks)))
        if srs: self.assertTrue(layer.GetSpatialRef().IsSame(srs, ["IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES", "CRITERION=EQUIVALENT"]))
        styles = dataset.GetLayerByName("layer_styles"); self.assertEqual(styles.GetFeatureCount(), 1)
        transform = raster.GetGeoTransform(can_return_null=True)
        for k, feature in enumerate(features):
            self.assertEqual((feature["mask"], feature["area_px"]), (k, int(masks[k].sum())))
            if not masks[k].any() or not transform: continue
            target = gdal.GetDriverByName("MEM").Create("", raster.RasterXSize, raster.RasterYSize, 1); target.SetGeoTransform(transform)
            memory = ogr.GetDriverByName("Memory").CreateDataSource(""); one = memory.CreateLayer("one", None); f = ogr.Feature(one.GetLayerDefn()); f.SetGeometry(feature.GetGeometryRef()); one.CreateFeature(f)
            gdal.RasterizeLayer(target, [1], one, burn_values=[1]); np.testing.assert_array_equal(target.ReadAsArray(), masks[k])


UTM = (3e5, 10.0, 0.0, 5e6, 0.0, -10.0)


def picture(bands=3, height=150, width=190, dtype=np.uint8, scale=1):
    y, x = np.mgrid[:height, :width]
    noise = rng.random((bands, height, width)) * 40
    return ((100 + 80 * np.sin(x / 17 + np.arange(bands)[:, None, None]) * np.cos(y / 13) + noise) * scale).astype(dtype)


class Samples(Base):
    def test_samples(self):
        if not os.path.isdir(SAMPLES): self.skipTest(f"{SAMPLES} is not there")
        for name in sorted(os.listdir(SAMPLES)):
            if name.endswith(".tif"):
                with self.subTest(name): self.check(os.path.join(SAMPLES, name))


class Scenes(Base):
    def test_kinds(self):
        points = [gdal.GCP(10 + c / 100 + r / 900, 47 - r / 100, 0, c, r) for c, r in ((0, 0), (190, 0), (0, 150), (190, 150), (90, 70))]
        half = np.zeros((150, 190), np.uint8); half[:, 60:] = 255
        for name, options in {
            "u8": dict(array=picture(), transform=UTM, srs="EPSG:32633"),
            "u16 grey": dict(array=picture(1, dtype=np.uint16, scale=60), transform=UTM, srs="EPSG:32733", nodata=0),
            "i16": dict(array=picture(4, dtype=np.int16, scale=-50), transform=UTM, srs="EPSG:3857", nodata=-9999),
            "float": dict(array=picture(2, dtype=np.float32, scale=.01), transform=(10, .001, 0, 50, 0, -.001), srs="EPSG:4326"),
            "alpha": dict(array=picture(4), transform=UTM, srs="EPSG:32633", options=["PHOTOMETRIC=RGB", "ALPHA=YES"]),
            "mask": dict(array=picture(), transform=UTM, srs="EPSG:32633", mask=half),
            "rotated": dict(array=picture(), transform=(3e5, 7, 3, 5e6, 2, -8), srs="EPSG:32633"),
            "control points": dict(array=picture(), points=points, srs="EPSG:4326"),
            "no CRS": dict(array=picture(), transform=UTM), "nothing": dict(array=picture()),
            "antimeridian": dict(array=picture(), transform=(3.2e5, 2000.0, 0.0, 5e6, 0.0, -2000.0), srs="EPSG:32601") | {"transform": (1.3e5, 2000.0, 0.0, 5e6, 0.0, -2000.0)},
        }.items():
            with self.subTest(name):
                path = self.make("scene.tif", **options)
                if name == "antimeridian":
                    self.run_all(path); _, _, features = self.features(self.path("m.geojson"))
                    for f in features:
                        left, right, low, high = f.GetGeometryRef().GetEnvelope(); self.assertTrue(-180 <= left and right <= 180); self.assertTrue(f.GetGeometryRef().IsValid())
                        for part in f.GetGeometryRef(): self.assertLess(part.GetEnvelope()[1] - part.GetEnvelope()[0], 90)
                else: self.check(path)

    def test_window_bands_stretch(self):
        path = self.make("scene.tif", picture(5, dtype=np.uint16, scale=30), transform=UTM, srs="EPSG:32633", options=["TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64"])
        _, first, _ = self.check(path, "--bands", "4,3,2", "--stretch", "p1,p99", "--window", "31,17,120,101", window=(31, 17, 120, 101))
        self.assertEqual((first["image"]["width"], first["image"]["height"]), (120, 101))
        # The picture in the answer is the view itself: a PNG of it gives the same answer.
        raw = gdal.Open(path).ReadAsArray(); low, high = (np.percentile(raw[[3, 2, 1]], q, axis=(1, 2)) for q in (1, 99))
        view = np.clip(np.floor((raw[[3, 2, 1]] - low[:, None, None]) / (high - low)[:, None, None] * 255 + .5), 0, 255).astype(np.uint8)[:, 17:118, 31:151]
        png = self.path("view.png"); memory = gdal.GetDriverByName("MEM").Create("", 120, 101, 3); memory.WriteArray(view); gdal.GetDriverByName("PNG").CreateCopy(png, memory)
        _, second, _ = self.run_all(png); self.assertEqual([first[k] for k in ("text", "token_ids", "masks")], [second[k] for k in ("text", "token_ids", "masks")])

    def test_mask_bands_and_simplify(self):
        path = self.make("scene.tif", picture(), transform=UTM, srs="EPSG:32633")
        done, answer, masks = self.run_all(path, "--mask-bands", "--simplify", "2")
        result = gdal.Open(self.path("m.tif")); self.assertEqual(result.RasterCount, max(1, len(masks)))
        for k, mask in enumerate(masks): np.testing.assert_array_equal(result.GetRasterBand(k + 1).ReadAsArray(), mask)
        self.assertEqual(validate_cloud_optimized_geotiff.validate(self.path("m.tif"), full_check=True)[:2], ([], []))
        for f in self.features(self.path("m.geojson"))[2]: self.assertTrue(f.GetGeometryRef() is None or f.GetGeometryRef().IsValid())

    def test_all_nodata(self):
        path = self.make("empty.tif", np.zeros((3, 90, 110), np.uint16), transform=UTM, srs="EPSG:32633", nodata=0)
        done, answer, masks = self.check(path)
        self.assertIn("nodata", done.stderr); self.assertEqual((done.stdout, answer["text"], masks), ("", "", []))

    def test_large_sparse_scene(self):
        path = self.path("large.tif"); dataset = gdal.GetDriverByName("GTiff").Create(path, 40000, 40000, 3, gdal.GDT_Byte, ["SPARSE_OK=YES", "TILED=YES", "BIGTIFF=YES"])
        dataset.SetProjection(system("EPSG:32633").ExportToWkt()); dataset.SetGeoTransform(UTM); dataset.WriteArray(picture(3, 200, 300), 39000, 38000); dataset = None
        self.assertIn("--window", self.run_program(path, code=1).stderr)
        self.check(path, "--window", "39000,38000,300,200", window=(39000, 38000, 300, 200))


class Refusals(Base):
    def test_words(self):
        path = self.make("scene.tif", picture())
        for code, words, extra in ((2, ["--bands", "4,3"], ["--bands", "4,3"]), (2, ["p98,p2"], ["--stretch", "p98,p2"]), (2, ["--window", "1,2,3"], ["--window", "1,2,3"]), (1, ["band 7", "1 to 3"], ["--bands", "7"]),
                                   (1, ["not within", "190 x 150"], ["--window", "100,0,100,100"]), (2, ["--masks"], ["--mask-bands"]), (2, ["same file"], ["--masks", self.path("a"), "--gpkg", self.path("a")]), (2, ["is read"], ["--masks", path])):
            with self.subTest(extra):
                before = sorted(os.listdir(self.folder)); done = self.run_program(path, *extra, code=code)
                for word in words: self.assertIn(word.replace("--bands", "bands"), done.stderr)
                self.assertEqual(sorted(os.listdir(self.folder)), before)


if __name__ == "__main__":
    unittest.main()
