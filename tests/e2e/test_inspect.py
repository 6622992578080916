#!/usr/bin/env python3
"""geopixel inspect as a user runs it, judged by this file's own readers of headers, by ../shared/spec/tensors-7b.tsv and, for
rasters, by GDAL where Debian's python3-gdal is there. Fresh random rasters at every run: GEOPIXEL_TEST_SEED repeats one."""
import json, math, os, random, shutil, struct, sys, unittest
from test_program import Base, GOLDENS, MODEL, SCENE, run
try:
    from osgeo import gdal, osr
    import numpy as np
    gdal.UseExceptions()
except ImportError:
    gdal = None

SHARED = os.path.dirname(GOLDENS)
SEED = int(os.environ.get("GEOPIXEL_TEST_SEED") or random.randrange(2 ** 32)); print(f"GEOPIXEL_TEST_SEED={SEED}", file=sys.stderr)
RANDOM = random.Random(SEED)
SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I64": 8, "U8": 1, "I32": 4}


def header(path):
    with open(path, "rb") as f: return json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))


def tensors_of(path):
    return {name: (t["dtype"].lower(), t["shape"]) for name, t in header(path).items() if name != "__metadata__"}


def write_safetensors(path, tensors, metadata=None):
    """Headers that are right and data that is one hole: {name: (dtype, shape)}."""
    entries, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, shape) in tensors.items():
        end = at + math.prod(shape) * SIZES[dtype.upper()]; entries[name] = {"dtype": dtype.upper(), "shape": shape, "data_offsets": [at, end]}; at = end
    text = json.dumps(entries).encode()
    with open(path, "wb") as f: f.write(struct.pack("<Q", len(text)) + text); f.truncate(8 + len(text) + at)


class Inspect(Base):
    def inspect(self, *arguments, code=0):
        """The document; the form for people has the same exit code and says something, too."""
        done, plain = run("inspect", *arguments, "--json"), run("inspect", *arguments)
        self.assertEqual((done.returncode, plain.returncode), (code, code), done.stderr + plain.stderr); self.assertEqual(done.stderr, plain.stderr)
        if code == 0: self.assertEqual(done.stderr, "")
        else: self.assertTrue(done.stderr.startswith("geopixel: "), done.stderr)
        self.text, self.reason = plain.stdout, done.stderr
        self.assertNotIn("\x1b", self.text); self.assertGreater(self.text.count("\n"), 5)
        return json.loads(done.stdout)

    def copy(self, tensors=None, source=MODEL, **files):
        """The checkpoint's small files, some replaced or (None) left out, and weights of these tensors; the source's where None."""
        folder = os.path.join(self.folder, f"checkpoint{len(os.listdir(self.folder))}"); os.mkdir(folder)
        for name in os.listdir(source):
            if name != "model.safetensors" or tensors is None: os.symlink(os.path.abspath(os.path.join(source, name)), os.path.join(folder, name))
        if tensors: write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
        for name, data in files.items():
            path = os.path.join(folder, name.replace("_json", ".json").replace("_model", ".model")); os.remove(path)
            if data is not None: open(path, "wb").write(data)
        return folder


class Checkpoints(Inspect):
    def check_whole(self, model):
        seen, tensors = self.inspect(model), tensors_of(os.path.join(model, "model.safetensors")); weights, config = seen["weights"], json.load(open(os.path.join(model, "config.json")))
        self.assertEqual((seen["kind"], seen["runs"], seen["reason"]), ("checkpoint", True, None)); self.assertIn("that runs", self.text)
        self.assertEqual({t["name"]: (t["dtype"], t["shape"]) for t in weights["tensors"]}, tensors)
        self.assertEqual(weights["total"]["tensors"], len(tensors)); self.assertEqual(weights["total"]["parameters"], sum(math.prod(s) for _, s in tensors.values()))
        for dtype in weights["dtypes"]: self.assertEqual(dtype["bytes"], sum(math.prod(s) * SIZES[d.upper()] for d, s in tensors.values() if d == dtype["dtype"]))
        self.assertEqual(weights["used"]["parameters"], sum(b["parameters"] for b in weights["blocks"])); self.assertEqual(weights["used"]["tensors"], weights["needed_tensors"])
        for block in weights["blocks"]: self.assertEqual(block["parameters"], block["needed_parameters"])
        lora = next(b for b in weights["blocks"] if b["block"] == "partial LoRA"); self.assertEqual(lora["tensors"], sum(".Plora_" in n for n in tensors))
        self.assertEqual([f["file_bytes"] for f in weights["files"]], [os.path.getsize(os.path.join(model, "model.safetensors"))])
        for field in ("vocab_size", "hidden_size", "num_hidden_layers", "num_key_value_heads", "max_length"): self.assertEqual(seen["config"]["language"][field], config[field])
        for part in ("vision", "grounding"):
            for field, value in config[part + "_config"].items():
                if field in seen["config"][part]: self.assertAlmostEqual(seen["config"][part][field], value) if isinstance(value, float) else self.assertEqual(seen["config"][part][field], value)
        for piece, number in json.load(open(os.path.join(model, "added_tokens.json"))).items():
            if piece in ("[SEG]", "<p>", "</p>"): self.assertEqual(seen["tokenizer"]["ids"][piece], number)

    def test_whole(self):
        self.check_whole(MODEL)
        if not os.path.exists(GOLDENS): self.skipTest(GOLDENS + " is not there")
        self.check_whole(os.path.join(GOLDENS, "checkpoint"))

    def test_full_size(self):
        """The released checkpoint's names and shapes, in three files that are holes: 20 GB of weights, none of them read."""
        spec, tokenizer = os.path.join(SHARED, "spec/tensors-7b.tsv"), os.path.join(SHARED, "tokenizer/tokenizer.model")
        if not os.path.exists(spec) or not os.path.exists(tokenizer): self.skipTest(spec + " is not there")
        rows = [line.rstrip("\n").split("\t") for line in open(spec)][1:]; shapes = {n: [int(s) for s in shape.split("x")] for n, shape, _ in rows}
        use, skip = (sum(math.prod(shapes[n]) for n, _, what in rows if what == kind) for kind in ("use", "skip"))
        shutil.copy(tokenizer, self.path("tokenizer.model")); self.file("added_tokens.json", json.dumps({"[SEG]": 92544, "<p>": 92545, "</p>": 92546}).encode())
        self.file("config.json", json.dumps(dict(vocab_size=92547, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
                  max_length=16384, max_position_embeddings=24576, rms_norm_eps=1e-5, rope_theta=1000000, rope_scaling={"type": "dynamic", "factor": 1.0}, out_dim=256)).encode())
        bare = self.inspect(self.folder, code=1)  # without weights what is needed is known all the same
        self.assertIn("no weights", self.reason); self.assertEqual(sum(b["needed_parameters"] for b in bare["weights"]["blocks"]), use); self.assertIn("8.91 G", self.text)
        parts = [{n: ("bf16", shapes[n]) for n, _, _ in rows[k::3]} for k in range(3)]
        for k, part in enumerate(parts): write_safetensors(self.path(f"model-{k}.safetensors"), part)
        self.file("model.safetensors.index.json", json.dumps({"weight_map": {n: f"model-{k}.safetensors" for k, part in enumerate(parts) for n in part}}).encode())
        seen = self.inspect(self.folder); weights = seen["weights"]
        self.assertEqual((weights["total"]["tensors"], len(weights["tensors"]), len(weights["files"])), (2808, 2808, 3)); self.assertEqual(weights["unknown"] + weights["missing"] + weights["unfit"], [])
        self.assertEqual((weights["used"]["parameters"], weights["never_loaded"]["parameters"]), (use, skip)); self.assertEqual((round(use / 1e9, 2), round(skip / 1e9, 2)), (8.91, 2.42))
        self.assertEqual({t["name"]: {"used": "use", "never loaded": "skip"}[t["state"]] for t in weights["tensors"]}, {n: what for n, _, what in rows})
        self.assertIn("8.91 G", self.text); self.assertIn("2.42 G", self.text)
        plan = self.inspect(SCENE, "--model", self.folder)["plan"]; other = self.inspect(SCENE)["plan"]  # the official sizes are the same
        self.assertEqual({**plan, "model": ""}, {**other, "model": ""}); self.assertEqual(plan["memory"]["weights"] // 10 ** 8, 178)

    def test_tensors(self):
        """Tensors that are missing, misshapen, of a foreign number format, and ones that nobody knows: all are told at once."""
        tensors = tensors_of(os.path.join(MODEL, "model.safetensors")); wrong = dict(tensors)
        del wrong["model.norm.weight"], wrong["vision_proj.2.bias"]; rows, columns = wrong["output.weight"][1]
        wrong["output.weight"] = ("bf16", [rows - 1, columns]); wrong["plora_glb_GN"] = ("i32", wrong["plora_glb_GN"][1]); wrong["a.stranger"] = ("f32", [3, 5]); wrong["model.layers.9.rotary_emb.inv_freq"] = ("f32", [4])
        weights = self.inspect(self.copy(wrong), code=1)["weights"]
        self.assertEqual((sorted(weights["missing"]), sorted(weights["unfit"]), weights["unknown"]), (["model.norm.weight", "vision_proj.2.bias"], ["output.weight", "plora_glb_GN"], ["a.stranger"]))
        by_name = {t["name"]: t for t in weights["tensors"]}
        self.assertEqual((by_name["output.weight"]["shape"], by_name["output.weight"]["expected"]), ([rows - 1, columns], [rows, columns])); self.assertIn("f32 is expected", by_name["plora_glb_GN"]["problem"])
        self.assertEqual((by_name["model.norm.weight"]["expected"], by_name["model.norm.weight"]["block"]), (tensors["model.norm.weight"][1], "language model"))
        self.assertRegex(self.text, r"model.norm.weight: missing; \[\d+\] is expected"); self.assertRegex(self.text, r"a.stranger: 3 x 5"); self.assertRegex(self.reason, "missing: 2, that do not serve: 2")
        stranger = self.inspect(self.copy({**tensors, "a.stranger": ("f32", [1])})); self.assertEqual((stranger["runs"], stranger["weights"]["unknown"]), (True, ["a.stranger"]))
        grid = json.load(open(os.path.join(MODEL, "config.json"))); window = "model.visual_model.image_encoder.trunk.pos_embed_window"
        odd = self.inspect(self.copy({**tensors, window: ("bf16", [1, grid["grounding_config"]["embed_dim"], 7, 7])}), code=1); self.assertEqual(odd["weights"]["unfit"], [window]); self.assertIn("do not tile", self.text)
        lora = {n: (d, s[:-1] + [5]) if n.endswith("wo.Plora_B.weight") and ".0." in n else (d, s) for n, (d, s) in tensors.items() if n != "model.layers.0.attention.wo.Plora_A.weight"}
        lone = self.inspect(self.copy(lora), code=1)["weights"]; self.assertEqual((lone["missing"], lone["unfit"]), (["model.layers.0.attention.wo.Plora_A.weight"], []))  # B's rank is A's to say

    def test_files(self):
        data = open(os.path.join(MODEL, "model.safetensors"), "rb").read(); tensors = tensors_of(os.path.join(MODEL, "model.safetensors"))
        for wrong, words in ((data[:len(data) // 2], "beyond"), (b"magic" + data[5:], "header"), (b"", "0 bytes")):
            folder = self.copy({"x": ("f32", [1])}); open(os.path.join(folder, "model.safetensors"), "wb").write(wrong)
            seen = self.inspect(folder, code=1); self.assertIn(words, seen["weights"]["error"]); self.assertIn("model.safetensors", self.reason); self.assertEqual(seen["config"]["error"], None)
            self.assertGreater(seen["weights"]["needed_tensors"], 200); self.assertIn("parameters in", self.text)
        folder = self.copy({"x": ("f32", [1])}); os.remove(os.path.join(folder, "model.safetensors")); names = list(tensors); half = len(names) // 2
        for k, part in enumerate((names[:half], names[half:])): write_safetensors(os.path.join(folder, f"part{k}.safetensors"), {n: tensors[n] for n in part})
        index = lambda extra: open(os.path.join(folder, "model.safetensors.index.json"), "w").write(json.dumps({"weight_map": {**{n: f"part{int(i >= half)}.safetensors" for i, n in enumerate(names)}, **extra}}))
        index({}); self.assertEqual(len(self.inspect(folder)["weights"]["files"]), 2)
        index({"more": "part7.safetensors"}); self.inspect(folder, code=1); self.assertIn("part7.safetensors", self.reason)
        index({"more": "part1.safetensors"}); self.inspect(folder, code=1); self.assertIn("does not hold it", self.reason)
        index({}); os.remove(os.path.join(folder, "part0.safetensors")); self.inspect(folder, code=1); self.assertIn("part0.safetensors", self.reason)

    def test_small_files(self):
        seen = self.inspect(self.copy(config_json=b"{"), code=1); self.assertIn("config.json", seen["config"]["error"]); self.assertNotIn("language", seen["config"]); self.assertGreater(len(seen["weights"]["tensors"]), 200)
        self.assertNotIn("nothing uses", self.text)  # what is used nobody can say
        config = json.load(open(os.path.join(MODEL, "config.json"))); config["vision_config"] = {**config["vision_config"], "num_attention_heads": 7, "hidden_size": None}
        self.assertIn("7 heads", self.inspect(self.copy(config_json=json.dumps(config).encode()), code=1)["config"]["error"])
        seen = self.inspect(self.copy(added_tokens_json=b"{}"), code=1); self.assertIn("[SEG]", seen["tokenizer"]["error"]); self.assertEqual(seen["tokenizer"]["ids"]["[SEG]"], None)
        seen = self.inspect(self.copy(tokenizer_model=None), code=1); self.assertIn("tokenizer.model", seen["tokenizer"]["error"]); self.assertEqual(seen["weights"]["missing"], [])
        os.mkdir(self.path("empty")); seen = self.inspect(self.path("empty"), code=1); self.assertFalse(seen["runs"]); self.assertEqual(self.reason.count("\n"), 3)


class Weights(Inspect):
    def test_safetensors(self):
        tensors = {"plain": ("bf16", [3, 4]), "esc\x1b[31m\u00e9": ("i64", []), "none": ("f32", [0, 7]), "deep": ("u8", [1, 2, 3, 4, 5])}
        write_safetensors(self.path("w.safetensors"), tensors, {"format": "pt", "word": "gr\u00fcn"}); seen = self.inspect(self.path("w.safetensors"))
        self.assertEqual({t["name"]: (t["dtype"], t["shape"]) for t in seen["tensors"]}, tensors); self.assertEqual((seen["kind"], seen["format"], seen["metadata"]), ("weights", "safetensors", {"format": "pt", "word": "gr\u00fcn"}))
        self.assertEqual(seen["total"], {"tensors": 4, "parameters": 12 + 1 + 0 + 120, "bytes": 24 + 8 + 120}); self.assertEqual(len(seen["dtypes"]), 4); self.assertIn("esc?[31m\u00e9", self.text)
        os.rename(self.path("w.safetensors"), self.path("w")); self.assertEqual(self.inspect(self.path("w"))["format"], "safetensors")  # told by content

    def test_torch(self):
        if not os.path.exists(GOLDENS): self.skipTest(GOLDENS + " is not there")
        good = os.path.join(GOLDENS, "torch")
        for name in sorted(os.listdir(good)):
            if not name.endswith(".bin"): continue
            done = run("inspect", os.path.join(good, name), "--json")
            if done.returncode == 0: seen = json.loads(done.stdout); self.assertEqual(seen["format"], "torch"); self.assertGreater(len(seen["tensors"]), 0)
            else: self.assertEqual((done.returncode, done.stdout), (1, ""), name); self.assertIn(name, done.stderr)

    def test_damaged(self):
        data = open(os.path.join(MODEL, "model.safetensors"), "rb").read()
        self.refuse(1, ["cut.safetensors", "beyond"], "inspect", self.file("cut.safetensors", data[:10 ** 6])); self.refuse(1, ["magic.safetensors", "header"], "inspect", self.file("magic.safetensors", b"x" * 9 + data[9:99]))
        self.refuse(1, ["no.bin"], "inspect", self.file("no.bin", b"no torch file")); self.refuse(1, ["empty.safetensors", "0 bytes"], "inspect", self.file("empty.safetensors", b""))


def official_grid(width, height, crops, side=560, patch=14):
    """Columns, rows and image tokens by model.md, sections 1 and 2."""
    longer, shorter = max(width, height), min(width, height); ratio, scale = longer / shorter, 1
    while scale * math.ceil(scale / ratio) <= crops: scale += 1
    scale = max(longer // side, scale - 1, 1); rows = -(-int(scale * side / ratio) // side); n = side // patch // 2
    columns, rows = (rows, scale) if width < height else (scale, rows)
    return columns, rows, (columns * rows + 1) * n * n + 1 + (rows + 1) * n


class Rasters(Inspect):
    def check_plan(self, seen, width, height, crops=9):
        columns, rows, tokens = official_grid(width, height, crops); plan = seen["plan"]
        if tokens + 64 + 300 > 16384: self.assertTrue(plan["reduced"])
        else: self.assertEqual((plan["crops"]["columns"], plan["crops"]["rows"], plan["image_tokens"], plan["reduced"]), (columns, rows, tokens, False))
        self.assertEqual(plan["prompt_tokens"], plan["image_tokens"] + 64); positions = plan["prompt_tokens"] + plan["max_new_tokens"]
        self.assertEqual(plan["memory"]["kv_cache"], -(-positions // 64) * 64 * 32 * 2 * 8 * 128 * 4)  # pages of 64, layers, keys and values, heads, f32
        self.assertEqual(plan["memory"]["total"], sum(v for k, v in plan["memory"].items() if k != "total")); self.assertGreaterEqual(plan["memory"]["activations"], 4 * width * height)

    def check(self, path, *arguments):
        """The file as GDAL describes it."""
        seen, file = self.inspect(path, *arguments), gdal.Open(path); bands = [file.GetRasterBand(i + 1) for i in range(file.RasterCount)]
        self.assertEqual((seen["kind"], seen["width"], seen["height"], len(seen["bands"])), ("raster", file.RasterXSize, file.RasterYSize, len(bands)))
        types = {gdal.GDT_Byte: "u8", gdal.GDT_UInt16: "u16", gdal.GDT_Int16: "i16", gdal.GDT_UInt32: "u32", gdal.GDT_Int32: "i32", gdal.GDT_Float32: "f32", gdal.GDT_Float64: "f64"}
        roles = {gdal.GCI_Undefined: "undefined", gdal.GCI_GrayIndex: "grey", gdal.GCI_RedBand: "red", gdal.GCI_GreenBand: "green", gdal.GCI_BlueBand: "blue", gdal.GCI_AlphaBand: "alpha", gdal.GCI_PaletteIndex: "palette"}
        self.assertEqual(seen["type"], types[bands[0].DataType]); self.assertEqual([b["role"] for b in seen["bands"]], [roles[b.GetColorInterpretation()] for b in bands])
        same = lambda a, b: a == b or a == "nan" and b is not None and math.isnan(b)
        for have, want in zip(seen["bands"], bands): self.assertTrue(same(have["nodata"], want.GetNoDataValue()), f"{have} {want.GetNoDataValue()}")
        if file.GetDriver().ShortName == "GTiff":
            self.assertEqual(seen["block"], bands[0].GetBlockSize()); self.assertIn(seen["codec"].lower(), (file.GetMetadataItem("COMPRESSION", "IMAGE_STRUCTURE") or "none").lower())
            self.assertEqual([[o["width"], o["height"], *o["block"]] for o in seen["overviews"]], [[o.XSize, o.YSize, *o.GetBlockSize()] for o in (bands[0].GetOverview(i) for i in range(bands[0].GetOverviewCount()))])
            self.assertEqual(seen["planar"], file.GetMetadataItem("INTERLEAVE", "IMAGE_STRUCTURE") == "BAND" and len(bands) > 1)
        flags = bands[0].GetMaskFlags(); self.assertEqual(seen["mask"], flags == gdal.GMF_PER_DATASET); self.assertEqual(seen["alpha_band"] > 0, "alpha" in [b["role"] for b in seen["bands"]])
        place, transform = seen["georeference"], file.GetGeoTransform(can_return_null=True)
        if transform is None: self.assertEqual((place["transform"], place["extent"] is None), (None, file.GetGCPCount() == 0))
        else:
            for have, want in zip(place["transform"], transform): self.assertAlmostEqual(have, want, delta=1e-9 * max(1, abs(want)))
            corners = [gdal.ApplyGeoTransform(transform, x, y) for x in (0, file.RasterXSize) for y in (0, file.RasterYSize)]; xs, ys = zip(*corners)
            for have, want in zip(place["extent"], (min(xs), min(ys), max(xs), max(ys))): self.assertAlmostEqual(have, want, delta=1e-9 * max(1, abs(want)))
            self.assertAlmostEqual(place["pixel_size"][0], math.hypot(transform[1], transform[4]))
        if transform is None and file.GetGCPCount() > 3:  # GDAL's own polynomial of the same order
            way = gdal.Transformer(file, None, ["METHOD=GCP_POLYNOMIAL", "MAX_GCP_ORDER=1"]); corners = [way.TransformPoint(0, x, y)[1] for x in (0, file.RasterXSize) for y in (0, file.RasterYSize)]
            for have, want in zip(place["extent"], (min(c[0] for c in corners), min(c[1] for c in corners), max(c[0] for c in corners), max(c[1] for c in corners))): self.assertAlmostEqual(have, want, delta=1e-6 * max(1, abs(want)))
        if transform is not None and file.GetSpatialRef() is not None:
            degrees = osr.SpatialReference(); degrees.ImportFromEPSG(4326); degrees.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER); source = file.GetSpatialRef(); source.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
            try: centre = osr.CoordinateTransformation(source, degrees).TransformPoint(*gdal.ApplyGeoTransform(transform, file.RasterXSize / 2, file.RasterYSize / 2))[:2]
            except RuntimeError: centre = None  # beyond what the projection has an inverse for
            if centre is not None and place["centre_wgs84"] is not None:
                near = 1e-6 if "WGS" in source.GetAttrValue("DATUM") else 5e-5  # from another datum PROJ knows several ways, metres apart
                self.assertAlmostEqual((place["centre_wgs84"][0] - centre[0] + 180) % 360, 180, delta=near); self.assertAlmostEqual(place["centre_wgs84"][1], centre[1], delta=near)
            elif source.IsProjected(): self.assertEqual(centre, place["centre_wgs84"])
        self.assertEqual(len(place["control_points"]), file.GetGCPCount()); self.assertEqual(place["georeferenced"], transform is not None or file.GetGCPCount() > 0)
        reference = file.GetSpatialRef() or file.GetGCPSpatialRef()
        if reference is not None and reference.GetAuthorityCode(None): self.assertEqual((place["epsg"], place["crs_name"]), (int(reference.GetAuthorityCode(None)), reference.GetName()))
        if not arguments: self.check_plan(seen, file.RasterXSize, file.RasterYSize)
        return seen

    def test_samples(self):
        if gdal is None: self.skipTest("python3-gdal is not there")
        folder = os.path.join(SHARED, "samples")
        if not os.path.exists(folder): self.skipTest(folder + " is not there")
        for name in sorted(os.listdir(folder)):
            if name.endswith(".tif"):
                with self.subTest(name): self.check(os.path.join(folder, name))

    def test_random(self):
        if gdal is None: self.skipTest("python3-gdal is not there")
        for number in range(12):
            width, height, count = RANDOM.randint(20, 900), RANDOM.randint(20, 900), RANDOM.randint(1, 5)
            kind = RANDOM.choice((gdal.GDT_Byte, gdal.GDT_UInt16, gdal.GDT_Int16, gdal.GDT_UInt32, gdal.GDT_Int32, gdal.GDT_Float32, gdal.GDT_Float64))
            options = ["COMPRESS=" + RANDOM.choice(("NONE", "LZW", "DEFLATE", "PACKBITS")), "INTERLEAVE=" + RANDOM.choice(("PIXEL", "BAND")), "BIGTIFF=" + RANDOM.choice(("NO", "YES"))]
            if RANDOM.random() < 0.5: options += ["TILED=YES", "BLOCKXSIZE=%d" % (16 * RANDOM.randint(1, 20)), "BLOCKYSIZE=%d" % (16 * RANDOM.randint(1, 20))]
            if count > 3: options += ["ALPHA=" + RANDOM.choice(("YES", "NO"))]
            place, nodata, overviews = RANDOM.choice(("none", "north", "rotated", "points")), RANDOM.choice((None, 0, 7, math.nan if kind >= gdal.GDT_Float32 else 255)), RANDOM.random() < 0.5
            with self.subTest(number=number, width=width, height=height, count=count, kind=kind, options=options, place=place, nodata=nodata, overviews=overviews):
                path = self.path(f"random{number}.tif"); file = gdal.GetDriverByName("GTiff").Create(path, width, height, count, kind, options)
                for i in range(count):
                    if nodata is not None: file.GetRasterBand(i + 1).SetNoDataValue(nodata)
                    file.GetRasterBand(i + 1).WriteArray(np.full((height, width), i + 1))
                reference = osr.SpatialReference(); reference.ImportFromEPSG(RANDOM.choice((32618, 3857, 4326, 25832)))
                if place in ("north", "rotated"):
                    turn = 0.3 if place == "rotated" else 0; file.SetSpatialRef(reference)
                    file.SetGeoTransform((RANDOM.uniform(-1e5, 1e5), 0.5 * math.cos(turn), 0.5 * math.sin(turn), RANDOM.uniform(-1e5, 1e5), 0.5 * math.sin(turn), -0.5 * math.cos(turn)))
                if place == "points": file.SetGCPs([gdal.GCP(10.0 * i, 20.0 * i * i, 0, 3 * i, 5 * (i % 3)) for i in range(1, 5)], reference)
                file.FlushCache()
                if overviews: file.BuildOverviews("NEAREST", [2, 4])
                file = None; self.check(path)
                if place == "none": self.assertIn("not georeferenced", self.text)

    def test_plan(self):
        for crops in (1, 4, 9, 16):
            seen = self.inspect(SCENE, "--crops", crops); self.check_plan(seen, seen["width"], seen["height"], crops); self.assertFalse(seen["georeference"]["georeferenced"])
        seen = self.inspect(SCENE, "--max-crops", 1)["plan"]; self.assertEqual((seen["crops"]["count"], seen["reduced"]), (1, True)); self.assertIn("fewer", self.text)
        small = self.inspect(SCENE, "--model", MODEL)["plan"]; config = json.load(open(os.path.join(MODEL, "config.json")))
        self.assertEqual((small["crops"]["side"], small["context"]), (config["vision_config"]["image_size"], config["max_length"])); self.assertLess(small["memory"]["weights"], os.path.getsize(os.path.join(MODEL, "model.safetensors")))
        done = run("run", SCENE, "--model", MODEL, "--prompt", "x", "--json", self.path("o.json"), "-q"); self.assertEqual(done.returncode, 0, done.stderr)
        answer = json.load(open(self.path("o.json"))); self.assertEqual((answer["image_tokens"], answer["crops"]["columns"], answer["crops"]["rows"]), (small["image_tokens"], small["crops"]["columns"], small["crops"]["rows"]))

    def test_damaged(self):
        png = open(SCENE, "rb").read()
        self.refuse(1, ["words"], "inspect", self.file("words", b"no picture at all")); self.refuse(1, ["empty"], "inspect", self.file("empty", b"")); self.refuse(1, ["/nonexistent", "No such file"], "inspect", "/nonexistent")
        self.refuse(1, ["cut.tif"], "inspect", self.file("cut.tif", b"II*\0\xff\xff\0\0")); self.refuse(1, ["cut.png"], "inspect", self.file("cut.png", png[:20]))
        self.inspect(SCENE, "--model", "/nonexistent", code=1); self.assertIn("/nonexistent", self.reason)
        if gdal is None: return
        gdal.GetDriverByName("GTiff").Create(self.path("line.tif"), 9000, 3, 1); seen = self.inspect(self.path("line.tif"), code=1)
        self.assertIn("9000 x 3", seen["plan"]["error"]); self.assertEqual(seen["width"], 9000)


class Usage(Base):
    def test_usage(self):
        done = run("inspect", "--help"); self.assertEqual((done.returncode, done.stderr), (0, "")); self.assertIn("usage: geopixel inspect FILE|DIR", done.stdout); self.assertIn("inspect", run("--help").stdout)
        self.refuse(2, ["no file"], "inspect"); self.refuse(2, ["one file"], "inspect", SCENE, SCENE); self.refuse(2, ["--crops"], "inspect", SCENE, "--crops", "0"); self.refuse(2, ["--json"], "inspect", SCENE, "--jsom")
        self.refuse(2, ["--crops", "folder"], "inspect", MODEL, "--crops", "2"); self.refuse(2, ["--model", "weight file"], "inspect", os.path.join(MODEL, "model.safetensors"), "--model", MODEL)


if __name__ == "__main__": unittest.main()
