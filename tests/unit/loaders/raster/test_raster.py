#!/usr/bin/env python3
"""The raster reader against GDAL: read_raster's pixels, validity, levels and georeference beside osgeo.gdal's own. Needs
python3-gdal and python3-numpy; skips, saying so, without. GEOPIXEL_TEST_SEED repeats a run."""
import json, os, random, shutil, subprocess, sys, tempfile, unittest, zipfile

try:
    import numpy as np
    from osgeo import gdal, osr
except ImportError as error:
    print(f"skipped: {error}"); sys.exit(77)

gdal.UseExceptions(); gdal.PushErrorHandler("CPLQuietErrorHandler")
READER = os.path.join(os.environ.get("GEOPIXEL_BIN", "build/bin"), "../tests/read_raster")
HAS_GDAL = os.environ.get("GEOPIXEL_HAS_GDAL") == "ON"
SAMPLES = os.path.join(os.environ.get("GEOPIXEL_SHARED", "../shared"), "samples")
SEED = int(os.environ.get("GEOPIXEL_TEST_SEED", "0"), 0) or random.SystemRandom().randrange(1, 1 << 32)
print(f"seed: GEOPIXEL_TEST_SEED={SEED}")
rng = np.random.default_rng(SEED)
TYPES = {"u8": np.uint8, "i8": np.int8, "u16": np.uint16, "i16": np.int16, "u32": np.uint32, "i32": np.int32, "f32": np.float32, "f64": np.float64}
GDAL_TYPES = {"u8": gdal.GDT_Byte, "u16": gdal.GDT_UInt16, "i16": gdal.GDT_Int16, "u32": gdal.GDT_UInt32, "i32": gdal.GDT_Int32,
              "f32": gdal.GDT_Float32, "f64": gdal.GDT_Float64}


def read_bytes(path):
    with open(path, "rb") as f: return f.read()


class Reader:
    def __init__(self):
        self.process = subprocess.Popen([READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *fields):
        self.process.stdin.write(("\t".join(map(str, fields)) + "\n").encode()); self.process.stdin.flush()
        line = self.process.stdout.readline(); assert line, "the reader ended"
        answer = json.loads(line)
        if "bytes" in answer: answer["data"] = self.process.stdout.read(answer["bytes"])
        if "valid_bytes" in answer: answer["valid"] = np.frombuffer(self.process.stdout.read(answer["valid_bytes"]), np.uint8)
        return answer

    def close(self):
        self.process.stdin.close(); code = self.process.wait(); self.process.stdout.close(); return code


class Base(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="geopixel-raster-"); self.addCleanup(shutil.rmtree, self.folder)
        self.reader = Reader(); self.addCleanup(lambda: self.assertEqual(self.reader.close(), 0))

    def path(self, name):
        return os.path.join(self.folder, name)

    def about(self, path):
        answer = self.reader.ask("about", path); self.assertNotIn("error", answer); return answer

    def check(self, path, bands=None, level=0, windows=3):
        """Pixels and validity of random windows, and the whole, equal GDAL's."""
        about, dataset = self.about(path), gdal.Open(path)
        self.assertEqual((about["width"], about["height"], len(about["bands"])), (dataset.RasterXSize, dataset.RasterYSize, dataset.RasterCount), path)
        bands = bands or list(range(1, dataset.RasterCount + 1)); dtype = TYPES[about["type"]]
        chosen = [dataset.GetRasterBand(b) for b in bands]
        if level: chosen = [b.GetOverview(level - 1) for b in chosen]
        width, height = chosen[0].XSize, chosen[0].YSize
        self.assertEqual(about["levels"][level][:2], [width, height])
        rectangles = [(0, 0, width, height)] if width * height < 4e6 else []
        for _ in range(windows):
            x, y = int(rng.integers(width)), int(rng.integers(height))
            rectangles.append((x, y, int(rng.integers(1, min(width - x, 700) + 1)), int(rng.integers(1, min(height - y, 700) + 1))))
        for x, y, w, h in rectangles:
            answer = self.reader.ask("read", path, level, x, y, w, h, ",".join(map(str, bands)))
            self.assertNotIn("error", answer, path)
            have = np.frombuffer(answer["data"], dtype).reshape(h, w, len(bands)); valid = answer["valid"].reshape(h, w, len(bands))
            for i, band in enumerate(chosen):
                want = band.ReadAsArray(x, y, w, h)
                if about["type"] == "i8": want = want.astype(np.uint8).view(np.int8)
                where = f"{os.path.basename(path)} band {bands[i]} level {level} window {x, y, w, h}"
                np.testing.assert_array_equal(have[:, :, i], want, where)
                flags = band.GetMaskFlags()
                count = band.GetMaskBand().ReadAsArray(x, y, w, h) != 0
                if want.dtype.kind == "f": count &= ~np.isnan(want)
                if about["alpha"] and not flags & gdal.GMF_PER_DATASET and bands[i] != about["alpha"]:
                    count &= dataset.GetRasterBand(about["alpha"]).ReadAsArray(x, y, w, h) != 0
                if not about["alpha"] or bands[i] != about["alpha"]:
                    np.testing.assert_array_equal(valid[:, :, i] != 0, count, "validity of " + where)
        return about

    def check_all(self, path, windows=3):
        about = self.check(path, windows=windows)
        order = list(rng.permutation(len(about["bands"])) + 1)[:3]
        self.check(path, bands=[int(b) for b in order] + [int(order[0])], windows=windows)
        for level in range(1, len(about["levels"])): self.check(path, level=level, windows=1)
        return about

    def make(self, name, type_="u8", bands=1, width=83, height=61, options=(), smooth=False, nodata=None, photometric=None):
        """A GeoTIFF of random samples; smooth ones for codecs that lose."""
        path = self.path(name); signed = type_ == "i8"
        data = self.samples(type_, bands, width, height, smooth)
        extra = ["PIXELTYPE=SIGNEDBYTE"] if signed else []
        dataset = gdal.GetDriverByName("GTiff").Create(path, width, height, bands, GDAL_TYPES["u8" if signed else type_], list(options) + extra)
        for b in range(bands):
            if nodata is not None: dataset.GetRasterBand(b + 1).SetNoDataValue(nodata)
            dataset.GetRasterBand(b + 1).WriteArray(data[b].view(np.uint8) if signed else data[b])
        dataset = None
        return path

    @staticmethod
    def samples(type_, bands, width, height, smooth=False):
        dtype = np.dtype(TYPES[type_])
        if smooth:
            y, x = np.mgrid[:height, :width]
            return np.stack([(128 + 100 * np.sin(x / (9 + b)) * np.cos(y / (7 + b))).astype(dtype) for b in range(bands)])
        if dtype.kind == "f": return (rng.standard_normal((bands, height, width)) * 1000).astype(dtype)
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, (bands, height, width), dtype=dtype, endpoint=True)


LAYOUTS = {"strips": [], "tiles": ["TILED=YES", "BLOCKXSIZE=32", "BLOCKYSIZE=16"], "one strip": ["BLOCKYSIZE=61"], "thin": ["BLOCKYSIZE=1"]}


class Kinds(Base):
    def test_types_codecs_layouts(self):
        for type_ in TYPES:
            for number, codec in enumerate(("NONE", "LZW", "DEFLATE", "ZSTD", "LERC", "PACKBITS", "LZMA")):
                predictors = [1, 3] if type_[0] == "f" else [1, 2]
                for predictor in predictors if codec in ("LZW", "DEFLATE", "ZSTD") else [1]:
                    layout = list(LAYOUTS)[(number + predictor) % 4]; pixel = ("PIXEL", "BAND")[int(rng.integers(2))]
                    if codec == "LERC" and type_ == "i8": continue
                    options = [f"COMPRESS={codec}", f"INTERLEAVE={pixel}", *LAYOUTS[layout]]
                    if predictor > 1: options.append(f"PREDICTOR={predictor}")
                    options += [f"ENDIANNESS={('LITTLE', 'BIG')[int(rng.integers(2))]}", f"BIGTIFF={('NO', 'YES')[int(rng.integers(2))]}"]
                    with self.subTest(type=type_, options=options):
                        path = self.make(f"{type_}{codec}{predictor}.tif", type_, 3, options=options)
                        about = self.check(path, windows=2); os.unlink(path)
                        self.assertEqual(about["type"], type_); self.assertEqual(about["planar"], pixel == "BAND")
                        self.assertEqual(about["tiled"], layout == "tiles")

    def test_lossy(self):
        for layout in LAYOUTS:
            if layout == "thin": continue  # JPEG's rows come in eights
            for options in (["COMPRESS=JPEG", "PHOTOMETRIC=YCBCR"], ["COMPRESS=JPEG"], ["COMPRESS=JPEG", "INTERLEAVE=BAND"],
                            ["COMPRESS=WEBP"], ["COMPRESS=WEBP", "WEBP_LOSSLESS=YES"], ["COMPRESS=LERC", "MAX_Z_ERROR=2"]):
                shape = ["BLOCKYSIZE=64"] if layout == "one strip" and "JPEG" in options[0] else LAYOUTS[layout]
                if layout == "strips" and "JPEG" in options[0]: shape = ["BLOCKYSIZE=16"]
                with self.subTest(layout=layout, options=options):
                    path = self.make("lossy.tif", "u8", 3, options=options + shape, smooth=True)
                    self.check(path, windows=2); os.unlink(path)

    def test_bits(self):
        for bits in (1, 2, 4, 7, 9, 12, 15):
            for layout in ("strips", "tiles"):
                type_ = "u8" if bits < 8 else "u16"
                with self.subTest(bits=bits, layout=layout):
                    path = self.path("bits.tif")
                    dataset = gdal.GetDriverByName("GTiff").Create(path, 83, 61, 3, GDAL_TYPES[type_], [f"NBITS={bits}", "COMPRESS=DEFLATE", "INTERLEAVE=PIXEL"] + LAYOUTS[layout])
                    for b in range(3): dataset.GetRasterBand(b + 1).WriteArray(rng.integers(0, 1 << bits, (61, 83)).astype(TYPES[type_]))
                    dataset = None
                    self.assertEqual(self.check(path)["bits"], bits)
        path = self.path("half.tif")
        dataset = gdal.GetDriverByName("GTiff").Create(path, 83, 61, 1, gdal.GDT_Float32, ["NBITS=16"])
        dataset.GetRasterBand(1).WriteArray(self.samples("f32", 1, 83, 61)[0]); dataset = None
        self.check(path)

    def test_alpha_masks_nodata(self):
        self.assertEqual(self.check(self.make("alpha.tif", "u16", 4, options=["PHOTOMETRIC=RGB", "ALPHA=YES"]))["alpha"], 4)
        self.assertEqual(self.check(self.make("grey alpha.tif", "u8", 2, options=["ALPHA=YES"]))["alpha"], 2)
        for type_, nodata in (("u8", 7), ("i16", -9999), ("u16", 0), ("f32", -3.4028234663852886e38), ("f32", float("nan")), ("f64", 1e-300), ("i32", -2147483648)):
            with self.subTest(type=type_, nodata=nodata):
                path = self.make("nodata.tif", type_, 2, nodata=nodata)
                dataset = gdal.Open(path, gdal.GA_Update)
                for b in (1, 2):
                    values = dataset.GetRasterBand(b).ReadAsArray(); values[rng.random(values.shape) < 0.3] = nodata
                    dataset.GetRasterBand(b).WriteArray(values)
                dataset = None
                self.check(path); os.unlink(path)
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", "YES")
        for tiles in ([], ["TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64"]):
            path = self.make("mask.tif", "u8", 3, 501, 403, options=["PHOTOMETRIC=RGB", *tiles], smooth=True)
            dataset = gdal.Open(path, gdal.GA_Update); dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
            dataset.GetRasterBand(1).GetMaskBand().WriteArray((rng.random((403, 501)) < 0.6).astype(np.uint8) * 255)
            dataset = None
            dataset = gdal.Open(path, gdal.GA_Update); dataset.BuildOverviews("NEAREST", [2, 4]); dataset = None
            about = self.check_all(path); os.unlink(path)
            self.assertTrue(about["has_mask"]); self.assertEqual(len(about["levels"]), 3); self.assertEqual(about["further_pictures"], 0)

    def test_palette(self):
        path = self.path("palette.tif"); dataset = gdal.GetDriverByName("GTiff").Create(path, 83, 61, 1, gdal.GDT_Byte)
        table = gdal.ColorTable(); colours = rng.integers(0, 256, (256, 3)); values = rng.integers(0, 256, (61, 83)).astype(np.uint8)
        for i in range(256): table.SetColorEntry(i, (*map(int, colours[i]), 255))
        dataset.GetRasterBand(1).SetColorTable(table); dataset.GetRasterBand(1).WriteArray(values); dataset = None
        self.assertEqual(self.check(path)["bands"][0]["role"], "palette")
        view = self.reader.ask("view", path, "-", "-", 0, 0, 83, 61)
        np.testing.assert_array_equal(np.frombuffer(view["data"], np.uint8).reshape(61, 83, 3), colours[values].astype(np.uint8))

    def test_sparse_and_further_pictures(self):
        path = self.path("sparse.tif")
        dataset = gdal.GetDriverByName("GTiff").Create(path, 700, 500, 2, gdal.GDT_Int16, ["SPARSE_OK=YES", "TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64", "COMPRESS=LZW"])
        dataset.GetRasterBand(1).SetNoDataValue(-5); dataset.GetRasterBand(1).WriteArray(self.samples("i16", 1, 100, 90)[0], 300, 200); dataset = None
        self.check(path)
        path = self.make("pages.tif"); before = self.about(path)
        second = gdal.GetDriverByName("GTiff").Create(path, 1000, 900, 1, gdal.GDT_Byte, ["APPEND_SUBDATASET=YES"]); second = None
        after = self.check(path)
        self.assertEqual(after["further_pictures"], 1); self.assertIn("further", after["note"]); self.assertEqual((after["width"], len(after["levels"])), (before["width"], 1))

    def test_samples(self):
        if not os.path.isdir(SAMPLES): self.skipTest(f"{SAMPLES} is not there")
        for name in sorted(os.listdir(SAMPLES)):
            if not name.endswith(".tif"): continue
            path = os.path.join(SAMPLES, name)
            with self.subTest(name):
                about, dataset = self.check_all(path), gdal.Open(path)
                self.assertEqual(len(about["levels"]) - 1, dataset.GetRasterBand(1).GetOverviewCount())
                np.testing.assert_allclose(about["transform"] or (0, 1, 0, 0, 0, 1), dataset.GetGeoTransform(), rtol=1e-15)
                system = dataset.GetSpatialRef()
                if system is not None:
                    have = osr.SpatialReference(); have.SetFromUserInput(about["crs"]); self.assertTrue(have.IsSame(system, ["IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES"]), about["crs"])

    def test_memory_of_a_window(self):
        """Sparse rasters of 2,000² and 40,000² pixels: a window of either costs the same. The tile lists are read entry by entry."""
        peaks = []
        for size in (2000, 40000):
            path = self.path(f"{size}.tif")
            dataset = gdal.GetDriverByName("GTiff").Create(path, size, size, 3, gdal.GDT_Byte, ["SPARSE_OK=YES", "TILED=YES", "BIGTIFF=YES", "COMPRESS=DEFLATE"])
            values = self.samples("u8", 3, 600, 600); at = size - 800
            for b in range(3): dataset.GetRasterBand(b + 1).WriteArray(values[b], at, at)
            dataset = None
            reader = Reader(); answer = reader.ask("read", path, 0, at, at, 600, 600, "1,2,3"); reader.close()
            np.testing.assert_array_equal(np.frombuffer(answer["data"], np.uint8).reshape(600, 600, 3), np.moveaxis(values, 0, 2))
            peaks.append(answer["peak_kilobytes"])
        self.assertLess(peaks[1], peaks[0] + 8192, peaks)  # 8 MiB: an allocator's noise; the large scene has 4.8 GB of pixels


class Views(Base):
    def view(self, path, bands="-", stretch="-", window=None):
        about = self.about(path); window = window or (0, 0, about["width"], about["height"])
        answer = self.reader.ask("view", path, bands, stretch, *window); self.assertNotIn("error", answer)
        return np.frombuffer(answer["data"], np.uint8).reshape(window[3], window[2], 3), answer

    @staticmethod
    def scaled(values, low, high):
        return np.clip(np.floor((values.astype(np.float64) - low) / (high - low) * 255 + 0.5), 0, 255).astype(np.uint8)

    def test_stretch(self):
        for type_ in ("i8", "u16", "i16", "u32", "i32", "f32", "f64"):
            path = self.make(f"{type_}.tif", type_, 4, 211, 160, nodata=None if type_ == "i8" else 3, options=["PHOTOMETRIC=MINISBLACK", "ALPHA=NO"] + LAYOUTS[("strips", "tiles")[int(rng.integers(2))]])
            dataset = gdal.Open(path, gdal.GA_Update); arrays = []
            for b in range(4):
                values = dataset.GetRasterBand(b + 1).ReadAsArray()
                if type_ != "i8":
                    values[rng.random(values.shape) < 0.4] = 3; dataset.GetRasterBand(b + 1).WriteArray(values)
                arrays.append(values.view(np.int8) if type_ == "i8" else values)
            dataset = None
            for words, limits in (("-", (2, 98)), ("p10,p60.5", (10, 60.5)), ("min,max", (0, 100))):
                have, answer = self.view(path, "4,3,1", words)
                for i, b in enumerate((3, 2, 0)):
                    count = arrays[b] != 3 if type_ != "i8" else np.ones_like(arrays[b], bool)
                    low, high = np.percentile(arrays[b][count].astype(np.float64), limits)
                    np.testing.assert_allclose([answer["low"][i], answer["high"][i]], [low, high], rtol=1e-12)
                    want = self.scaled(arrays[b], answer["low"][i], answer["high"][i]); want[~count] = 0
                    np.testing.assert_array_equal(have[:, :, i], want, f"{type_} {words}")
            have, _ = self.view(path, "2", "-20,90", (5, 7, 100, 90))
            want = self.scaled(arrays[1], -20, 90)
            if type_ != "i8": want[arrays[1] == 3] = 0
            for c in range(3): np.testing.assert_array_equal(have[:, :, c], want[7:97, 5:105])

    def test_plain(self):
        path = self.make("rgba.tif", "u8", 4, options=["PHOTOMETRIC=RGB", "ALPHA=YES"]); arrays = gdal.Open(path).ReadAsArray()
        have, answer = self.view(path); np.testing.assert_array_equal(have, np.moveaxis(arrays[:3], 0, 2))
        self.assertEqual(answer["valid_pixels"], int((arrays[3] != 0).sum()))
        have, _ = self.view(path, "3,1,2", window=(11, 13, 50, 40)); np.testing.assert_array_equal(have, np.moveaxis(arrays[[2, 0, 1], 13:53, 11:61], 0, 2))
        path = self.make("five.tif", "u8", 5); have, _ = self.view(path); np.testing.assert_array_equal(have, np.moveaxis(gdal.Open(path).ReadAsArray()[:3], 0, 2))
        path = self.make("two.tif", "u8", 2); have, _ = self.view(path); np.testing.assert_array_equal(have[:, :, 2], gdal.Open(path).ReadAsArray()[0])
        path = self.make("white.tif", "u8", 1, options=["PHOTOMETRIC=MINISWHITE"]); have, _ = self.view(path); np.testing.assert_array_equal(have[:, :, 0], 255 - gdal.Open(path).ReadAsArray())
        path = self.make("blue first.tif", "u8", 4); dataset = gdal.Open(path, gdal.GA_Update)
        for b, role in enumerate((gdal.GCI_BlueBand, gdal.GCI_GreenBand, gdal.GCI_RedBand, gdal.GCI_Undefined)): dataset.GetRasterBand(b + 1).SetColorInterpretation(role)
        arrays = dataset.ReadAsArray(); dataset = None
        have, _ = self.view(path); np.testing.assert_array_equal(have, np.moveaxis(arrays[[2, 1, 0]], 0, 2))
        path = self.make("none.tif", "i16", 1); have, _ = self.view(path, "-", "none"); np.testing.assert_array_equal(have[:, :, 0], np.clip(gdal.Open(path).ReadAsArray(), 0, 255))

    def test_large_scene(self):
        """Percentiles of a coarse grid or an overview stay near the whole scene's: their ranks within 1 % of the pixels for values without order in space."""
        values = rng.gamma(3, 400, (2600, 2700)).astype(np.uint16)
        for options, overviews in ((["TILED=YES"], []), ([], []), (["TILED=YES"], [2]), (["BLOCKYSIZE=2600", "COMPRESS=LZW"], [])):
            path = self.path("large.tif"); dataset = gdal.GetDriverByName("GTiff").Create(path, 2700, 2600, 1, gdal.GDT_UInt16, options)
            dataset.GetRasterBand(1).WriteArray(values)
            dataset.FlushCache()
            if overviews: dataset.BuildOverviews("NEAREST", overviews)
            dataset = None
            have, answer = self.view(path)
            for value, percent in ((answer["low"][0], 2), (answer["high"][0], 98)): self.assertAlmostEqual((values < value).mean() * 100, percent, delta=1)
            np.testing.assert_array_equal(have[:, :, 0], self.scaled(values, answer["low"][0], answer["high"][0]))

    def test_empty(self):
        path = self.make("empty.tif", "u16", 3, nodata=0); dataset = gdal.Open(path, gdal.GA_Update)
        for b in (1, 2, 3): dataset.GetRasterBand(b).WriteArray(np.zeros((61, 83), np.uint16))
        dataset = None
        have, answer = self.view(path); self.assertEqual(answer["valid_pixels"], 0); self.assertEqual(have.max(), 0)


class Places(Base):
    """Where pixels lie, as GDAL and the PROJ that both stand on have it."""

    def place(self, name, system=None, transform=None, points=None, options=()):
        path = self.path(name); dataset = gdal.GetDriverByName("GTiff").Create(path, 40, 30, 1, gdal.GDT_Byte, list(options))
        if points: dataset.SetGCPs(points, system.ExportToWkt())
        if system is not None and not points: dataset.SetProjection(system.ExportToWkt())
        if transform: dataset.SetGeoTransform(transform)
        dataset = None
        return path

    @staticmethod
    def system(text):
        system = osr.SpatialReference(); system.SetFromUserInput(text); system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER); return system

    def compare(self, path, tolerance=1e-9, named=True):
        """Transform or points, CRS, and the place of random pixels within random windows. A datum without a code or name is compared by its places alone."""
        about, dataset = self.about(path), gdal.Open(path)
        theirs = dataset.GetSpatialRef() or dataset.GetGCPSpatialRef(); self.assertIsNotNone(theirs)
        have = self.system(about["crs"]); self.assertTrue(not named or have.IsSame(theirs, ["IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES", "CRITERION=EQUIVALENT"]), (about["crs"], theirs.ExportToWkt()))
        if dataset.GetGCPCount() == 0:
            np.testing.assert_allclose(about["transform"], dataset.GetGeoTransform(), rtol=1e-14, atol=1e-9)
        else:
            self.assertEqual(about["transform"], [])
            np.testing.assert_allclose(about["control_points"], [(p.GCPPixel, p.GCPLine, p.GCPX, p.GCPY, p.GCPZ) for p in dataset.GetGCPs()], rtol=1e-14)
        to_crs = gdal.Transformer(dataset, None, ["METHOD=GEOTRANSFORM"] if dataset.GetGCPCount() == 0 else ["METHOD=GCP_POLYNOMIAL"])
        theirs.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER); to_degrees = osr.CoordinateTransformation(theirs, self.system("OGC:CRS84"))
        for _ in range(5):
            x, y, column, row = rng.integers(0, 20), rng.integers(0, 20), rng.random() * 20, rng.random() * 10
            answer = self.reader.ask("locate", path, x, y, column, row); self.assertNotIn("error", answer)
            done, want = to_crs.TransformPoint(0, float(x + column), float(y + row)); self.assertTrue(done)
            np.testing.assert_allclose(answer["crs"], want[:2], rtol=tolerance, atol=1e-6)
            lon, lat, _ = to_degrees.TransformPoint(*want[:2])
            np.testing.assert_allclose([(answer["wgs84"][0] - lon + 180) % 360 - 180, answer["wgs84"][1] - lat], [0, 0], atol=1e-7)  # a centimetre
            wkt = self.system(answer["wkt"])
            if about["epsg"]: self.assertEqual(wkt.GetAuthorityCode(None), str(about["epsg"]))
            elif named: self.assertTrue(wkt.IsSame(theirs, ["IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES", "CRITERION=EQUIVALENT"]))
        return about

    def test_codes(self):
        for code, x, y, pixel in ((32618, 1e5, 4.5e6, 10), (32733, 3e5, 7e6, 0.5), (3857, -8e6, 5e6, 2), (4326, 12, 47, 1e-4), (3395, 1e6, 1e6, 30), (3413, -2e5, -1e6, 100),
                                  (3031, 3e5, 1e6, 100), (2227, 6e6, 2.1e6, 3), (2193, 1.6e6, 5.4e6, 1), (27700, 4e5, 3e5, 1), (3035, 4.3e6, 3.2e6, 25), (5070, 1e6, 2e6, 30), (32660, 8e5, 6e6, 10), (4269, -100, 40, 1e-3)):
            with self.subTest(code=code):
                about = self.compare(self.place("code.tif", self.system(f"EPSG:{code}"), (x, pixel, 0, y, 0, -pixel)))
                self.assertEqual((about["epsg"], about["crs"]), (code, f"EPSG:{code}"))

    def test_user_defined(self):
        for text in ("+proj=lcc +lat_1=33 +lat_2=45 +lat_0=39 +lon_0=-96 +x_0=1000 +y_0=2000 +datum=NAD83", "+proj=aea +lat_1=20 +lat_2=50 +lat_0=10 +lon_0=15 +ellps=GRS80",
                     "+proj=laea +lat_0=52 +lon_0=10 +x_0=1 +y_0=2 +datum=WGS84", "+proj=tmerc +lat_0=1 +lon_0=9 +k=0.9998 +x_0=5e5 +datum=WGS84", "+proj=merc +lon_0=100 +k=1 +datum=WGS84",
                     "+proj=stere +lat_0=90 +lat_ts=71 +lon_0=-40 +datum=WGS84", "+proj=lcc +lat_1=33 +lat_2=45 +lat_0=39 +lon_0=-96 +datum=NAD83 +units=us-ft", "+proj=sinu +lon_0=0 +R=6371007.181",
                     "+proj=omerc +lat_0=4 +lonc=115 +alpha=53.3 +gamma=53.1 +k=0.9998 +x_0=1000 +y_0=2000 +datum=WGS84", "+proj=tmerc +lon_0=9 +ellps=bessel +towgs84=598.1,73.7,418.2,0.202,0.045,-2.455,6.7",
                     "+proj=eqc +lat_ts=30 +lon_0=5 +datum=WGS84", "+proj=aeqd +lat_0=40 +lon_0=-100 +datum=WGS84"):
            with self.subTest(text): self.compare(self.place("own.tif", self.system(text), (1e5, 20, 0, 3e5, 0, -20)), named="towgs84" not in text)

    def test_transforms(self):
        system = self.system("EPSG:32633")
        for transform in ((5e5, 10, 0, 5e6, 0, -10), (5e5, 8, 3, 5e6, 2.5, -9), (5e5, 10, 0, 5e6, 0, 10), (5e5, 0, 7, 5e6, -7, 0)):
            for point in ((), ("GTIFF_POINT",)):
                with self.subTest(transform=transform, point=point):
                    path = self.path("t.tif"); dataset = gdal.GetDriverByName("GTiff").Create(path, 40, 30, 1)
                    dataset.SetProjection(system.ExportToWkt()); dataset.SetGeoTransform(transform)
                    if point: dataset.SetMetadataItem("AREA_OR_POINT", "Point")
                    dataset = None; self.compare(path)

    def test_control_points(self):
        system = self.system("EPSG:32633")
        for count in (3, 4, 5, 6, 9, 20):
            with self.subTest(count):
                points = [gdal.GCP(5e5 + 9 * c + 2 * r + 1e-3 * c * r + float(rng.normal()), 5e6 + c - 11 * r + float(rng.normal()), 7.0, float(c), float(r)) for c, r in rng.random((count, 2)) * (40, 30)]
                about = self.compare(self.place("gcp.tif", system, points=points), 1e-8); self.assertEqual(len(about["control_points"]), count)

    def test_nothing_or_rubbish(self):
        path = self.place("plain.tif"); about = self.about(path); self.assertEqual((about["format"], about["transform"], about["crs"], about["note"]), ("TIFF", [], None, None))
        self.assertIn("not georeferenced", self.reader.ask("locate", path, 0, 0, 1, 1)["error"])
        path = self.place("rpc.tif"); dataset = gdal.Open(path, gdal.GA_Update)
        coefficients = " ".join(["1"] + ["0"] * 19)
        dataset.SetMetadata({"LINE_OFF": "15", "SAMP_OFF": "20", "LAT_OFF": "40", "LONG_OFF": "10", "HEIGHT_OFF": "0", "LINE_SCALE": "15", "SAMP_SCALE": "20", "LAT_SCALE": "1", "LONG_SCALE": "1", "HEIGHT_SCALE": "500",
                             "LINE_NUM_COEFF": coefficients, "LINE_DEN_COEFF": coefficients, "SAMP_NUM_COEFF": coefficients, "SAMP_DEN_COEFF": coefficients}, "RPC"); dataset = None
        about = self.about(path); self.assertIn("RPC", about["note"]); self.assertEqual(about["transform"], [])
        path = self.place("good.tif", self.system("EPSG:32633"), (5e5, 10, 0, 5e6, 0, -10)); data = read_bytes(path)
        at = data.index(bytes((1, 0, 1, 0)))  # the keys' version
        for _ in range(60):  # damage among the keys: an answer or an error, never a crash
            damaged = bytearray(data); damaged[at + int(rng.integers(0, 60))] = int(rng.integers(256))
            with open(self.path("bad.tif"), "wb") as f: f.write(damaged)
            self.assertIsInstance(self.reader.ask("about", self.path("bad.tif")), dict)
        damaged = bytearray(data); damaged[at + 6] = 200  # more keys than there are
        with open(self.path("bad.tif"), "wb") as f: f.write(damaged)
        about = self.about(self.path("bad.tif")); self.assertIn("contradicts itself", about["note"]); self.assertIsNone(about["crs"]); self.assertNotEqual(about["transform"], [])

    def test_not_on_earth(self):
        path = self.place("moon.tif", self.system("+proj=eqc +R=1737400"), (0, 100, 0, 0, 0, -100))
        self.assertIn("another body", self.reader.ask("locate", path, 0, 0, 1, 1)["error"])


class Refused(Base):
    def refuse(self, path, *words, fields=None):
        answer = self.reader.ask(*(fields or ("about", path))); self.assertIn("error", answer)
        for word in words: self.assertIn(word, answer["error"])

    def test_words(self):
        self.refuse(self.path("absent.tif"), "absent.tif", "No such file")
        open(self.path("empty.tif"), "w").close(); self.refuse(self.path("empty.tif"), "empty")
        with open(self.path("text.tif"), "w") as f: f.write("no raster at all")
        self.refuse(self.path("text.tif"), "not a TIFF, PNG or JPEG file")
        path = self.make("complex.tif"); gdal.GetDriverByName("GTiff").Create(path, 5, 5, 1, gdal.GDT_CFloat32).FlushCache()
        self.refuse(path, "complex", "gdal_translate -ot Float64")
        path = self.make("good.tif", "u8", 3)
        self.refuse(path, "band 4", "1 to 3", fields=("view", path, "4", "-", 0, 0, 5, 5))
        self.refuse(path, "4,3", fields=("view", path, "4,3", "-", 0, 0, 5, 5))
        self.refuse(path, "min,max", fields=("view", path, "-", "p98,p2", 0, 0, 5, 5))
        self.refuse(path, "not within 83 x 61", fields=("read", path, 0, 80, 0, 4, 5, "1"))
        self.refuse(path, "level 1", fields=("read", path, 1, 0, 0, 4, 5, "1"))

    def test_codec_that_is_lacked(self):
        path = self.make("codec.tif", options=["COMPRESS=LZW"]); data = bytearray(read_bytes(path))
        at = data.index(bytes((3, 1, 3, 0, 1, 0, 0, 0)) + (5).to_bytes(4, "little")[:2]); data[at + 8:at + 10] = (34712).to_bytes(2, "little")
        with open(path, "wb") as f: f.write(data)
        self.refuse(path, "JPEG 2000", "34712", "gdal_translate")

    def test_directory_over_nothing(self):
        """9,000 x 9,000 pixels in half a kilobyte, in one strip that is not there: refused before memory is asked for."""
        entries = [(256, 4, 9000), (257, 4, 9000), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 9000), (279, 4, 81000000)]
        data = b"II*\0" + (16).to_bytes(4, "little") + bytes(8) + len(entries).to_bytes(2, "little")
        for tag, kind, value in entries: data += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        with open(self.path("nothing.tif"), "wb") as f: f.write(data.ljust(512, b"\0"))
        self.refuse(self.path("nothing.tif"), "nothing.tif", "81000000", "512", fields=("read", self.path("nothing.tif"), 0, 0, 0, 5, 5, "1"))

    def test_damage(self):
        path = self.make("whole.tif", "u16", 3, options=["COMPRESS=DEFLATE", "TILED=YES", "BLOCKXSIZE=32", "BLOCKYSIZE=32"]); data = read_bytes(path)
        for share in (0.1, 0.5, 0.9):
            with open(self.path("cut.tif"), "wb") as f: f.write(data[:int(len(data) * share)])
            answer = self.reader.ask("read", self.path("cut.tif"), 0, 0, 0, 83, 61, "1,2,3"); self.assertIn("cut.tif", answer.get("error", ""))


class ThroughGdal(Base):
    def test_vrt_and_jpeg2000(self):
        """The same checks over what GDAL alone opens."""
        source = self.make("source.tif", "u16", 3, 301, 200, nodata=9); vrt = self.path("a.vrt")
        gdal.Translate(vrt, source, format="VRT")
        if not HAS_GDAL:
            answer = self.reader.ask("about", vrt); self.assertIn("gdal_translate", answer["error"]); return
        self.check(vrt)
        with zipfile.ZipFile(self.path("a.zip"), "w") as archive: archive.write(source, "source.tif")
        self.check("/vsizip/" + self.path("a.zip") + "/source.tif")
        if gdal.GetDriverByName("JP2OpenJPEG"):
            jp2 = self.path("a.jp2"); gdal.Translate(jp2, source, format="JP2OpenJPEG", outputSRS="EPSG:32618", outputBounds=[500000, 4500000, 500301, 4499800])
            about = self.check_all(jp2); self.assertEqual(about["format"], "JP2OpenJPEG"); self.assertEqual(about["crs"], "EPSG:32618")
            np.testing.assert_allclose(about["transform"], (500000, 1, 0, 4500000, 0, -1))

    def test_samples(self):
        if not HAS_GDAL: self.skipTest("this build has no GDAL")
        if not os.path.isdir(SAMPLES): self.skipTest(f"{SAMPLES} is not there")
        for name in sorted(os.listdir(SAMPLES)):
            if not name.endswith(".tif"): continue
            path = self.path(name + ".vrt"); gdal.Translate(path, os.path.abspath(os.path.join(SAMPLES, name)), format="VRT")
            with self.subTest(name):
                about, dataset = self.check(path), gdal.Open(path)
                np.testing.assert_allclose(about["transform"] or (0, 1, 0, 0, 0, 1), dataset.GetGeoTransform(), rtol=1e-15)

    def test_jpeg2000_without_gdal(self):
        path = self.path("a.jp2")
        with open(path, "wb") as f: f.write(bytes((0, 0, 0, 12)) + b"jP  \r\n\x87\n" + bytes(50))
        self.assertIn("JPEG 2000", self.reader.ask("about", path)["error"])


if __name__ == "__main__":
    unittest.main()
