"use strict";
// Profiles of losses by exact formulas, the same numbers as rarepixel.viz.profile's: rarepixel.profile(name, parameters,
// population). A pair's index is the label: 0 negatives, 1 positives. p = sigmoid(z) of a pixel's logit z, and m, how
// wrong it is: z for a negative, -z for a positive.
window.rarepixel = (() => {
  const GRID = Array.from({ length: 193 }, (_, place) => (place - 96) / 8);

  const softplus = (m) => Math.max(m, 0) + Math.log1p(Math.exp(-Math.abs(m))); // -log(1 - p), the cross-entropy at m
  const sigmoid = (m) => Math.exp(-softplus(-m));
  const wrongness = (label, z) => (label ? -z : z);
  const sumOver = (counts, of) => counts.reduce((sum, count, place) => sum + count * of(place), 0);
  // Slopes by m are slopes by z, for positives with the other sign.
  const byLogit = (label, slope) => (label ? -slope : slope);

  // ---- Populations ----

  // Quantile of u: mean + spread sqrt(3) / pi log(u / (1 - u)).
  const logistic = (mean, spread) => (u) => mean + spread * Math.sqrt(3) / Math.PI * Math.log(u / (1 - u));

  // Linear between knots, the i-th at (1 - cos(pi i / (n - 1))) / 2.
  const measured = (knots) => (u) => {
    const last = knots.length - 1;
    const share = (place) => (1 - Math.cos(Math.PI * place / last)) / 2;
    let place = Math.min(Math.floor(Math.acos(1 - 2 * u) / Math.PI * last), last - 1);
    if (share(place) > u) place -= 1;
    if (place < last - 1 && share(place + 1) <= u) place += 1;
    const part = (u - share(place)) / (share(place + 1) - share(place));
    return knots[place] + part * (knots[place + 1] - knots[place]);
  };

  // Pixels of two classes, a class of N having min(N, 2048) different logits, in equal numbers give or take one.
  function population(prevalence, quantiles) {
    const size = Math.min(Math.max(Math.floor(64 / prevalence + 0.5), 4096), 2 ** 20);
    const positives = Math.floor(prevalence * size + 0.5);
    const sizes = [size - positives, positives];
    const values = [], counts = [], middle = [];
    for (const label of [0, 1]) {
      const strata = Math.min(sizes[label], 2048);
      const upTo = (place) => Math.floor(place * sizes[label] / strata);
      values.push(Array.from({ length: strata }, (_, place) => quantiles[label]((place + 0.5) / strata)));
      counts.push(Array.from({ length: strata }, (_, place) => upTo(place + 1) - upTo(place)));
      middle.push(counts[label].findIndex((_, place) => upTo(place + 1) > Math.floor(sizes[label] / 2)));
    }
    return { prevalence, size, sizes, values, counts, middle };
  }

  // The counts without the median pixel of a class, whose place the probe takes.
  function rest(pixels, label) {
    const counts = pixels.counts.map((one) => one.slice());
    counts[label][pixels.middle[label]] -= 1;
    return counts;
  }

  // ---- Sums over pixels, and overlaps ----

  // w (1 - q)^gamma * -log q with q = sigmoid(-m), the probability of the true class;
  // by m: w (1 - q)^gamma (1 - q + gamma q * -log q).
  const focalTerm = (weight, gamma) => (m) => {
    const factor = weight * Math.exp(-gamma * softplus(-m)), loss = softplus(m);
    return [factor * loss, factor * (sigmoid(m) + gamma * sigmoid(-m) * loss)];
  };

  // (p - y)^2 = sigmoid(m)^2; by m: 2 sigmoid(m)^2 sigmoid(-m).
  const squareTerm = (m) => {
    const p = sigmoid(m);
    return [p * p, 2 * p * p * sigmoid(-m)];
  };

  // w (1 - T)^e of a class, 1 - T = U / A with U = a FN + b FP, A = N - FN + U + smooth;
  // by FN: (a (A - U) + U) / A^2, by FP: b (A - U) / A^2, each times w e (1 - T)^(e - 1).
  function indexTerm({ weight, exponent, missed, excess, smooth }, size, fn, fp) {
    if (weight === 0) return [0, 0, 0];
    if (exponent === 0) return [weight, 0, 0];
    const wrong = missed * fn + excess * fp, all = size - fn + wrong + smooth;
    const part = wrong / all;
    if (!(part > 0)) return [0, 0, 0];
    const slope = weight * exponent * part ** (exponent - 1) / (all * all);
    return [weight * part ** exponent, slope * (missed * (all - wrong) + wrong), slope * excess * (all - wrong)];
  }

  // The index of positives, and that of negatives, whose FN and FP change places.
  const overlapOf = (positives, negatives) => (sizes, fn, fp) => {
    const one = indexTerm(positives, sizes[1], fn, fp), other = indexTerm(negatives, sizes[0], fp, fn);
    return [one[0] + other[0], one[1] + other[2], one[2] + other[1]];
  };

  // Tversky's of positives, or with the background the mean over both classes.
  function tverskyOverlap(alpha, beta, background, smooth, weight = 1, exponent = 1) {
    const of = { weight: background ? weight / 2 : weight, exponent, missed: beta, excess: alpha, smooth };
    return overlapOf(of, background ? of : { weight: 0 });
  }

  // A loss that is the mean of a term of each pixel, a pair by label, and a function of FN and FP.
  const summed = (terms, overlap = () => [0, 0, 0]) => (pixels) => {
    // Of positives 1 - p, of negatives p: sigmoid(m), whose slope is p (1 - p).
    const errors = (counts, label) =>
      sumOver(counts[label], (place) => sigmoid(wrongness(label, pixels.values[label][place])));
    const at = (label, z, errorsOfAll) => {
      const m = wrongness(label, z);
      const [loss, slope] = terms ? terms[label](m) : [0, 0];
      const region = overlap(pixels.sizes, errorsOfAll[1], errorsOfAll[0]);
      const ofError = region[label ? 1 : 2] * sigmoid(m) * sigmoid(-m);
      return [loss + pixels.size * region[0], byLogit(label, slope + pixels.size * ofError)];
    };
    const inPopulation = [errors(pixels.counts, 0), errors(pixels.counts, 1)];
    return {
      probe(label) {
        const counts = rest(pixels, label), others = [errors(counts, 0), errors(counts, 1)];
        return (z) => {
          const all = others.slice();
          all[label] += sigmoid(wrongness(label, z));
          return at(label, z, all);
        };
      },
      gradient: (label, place) => at(label, pixels.values[label][place], inPopulation)[1],
    };
  };

  // ---- Balanced classes of chosen negatives ----

  // (w S+ / N+ + S- / K) / (w + 1): sums of cross-entropies of positives and of the K negatives that are kept. Which are
  // kept, and with what weight, is constant to the gradient: n w (p - 1) / (N+ (w + 1)) and n p share / (K (w + 1)).
  // `choose(ordered)` says how many are kept, and which share of a negative with a logit.
  const balanced = (choose, weight = 1) => (pixels) => {
    const [negatives, positives] = pixels.sizes, scale = pixels.size / (weight + 1);
    const ordered = (counts) => ordering(pixels.values[0], counts);
    const ofPositive = (z) => [scale * weight / positives * softplus(-z), -scale * weight / positives * sigmoid(-z)];
    const chosen = choose(ordered(pixels.counts[0]), null, pixels.sizes);
    return {
      probe(label) {
        if (label) return ofPositive;
        const others = ordered(rest(pixels, 0)[0]);
        return (z) => {
          const { kept, share } = choose(others, z, pixels.sizes);
          const loss = (others.hardest(kept - share(z)) + share(z) * softplus(z)) / kept;
          return [scale * loss, scale * sigmoid(z) * share(z) / kept];
        };
      },
      gradient: (label, place) => {
        const z = pixels.values[label][place];
        return label ? ofPositive(z)[1] : scale * sigmoid(z) * chosen.share(z) / chosen.kept;
      },
      kept: () => chosen.kept / negatives,
    };
  };

  // Negatives by rising logits: how many lie above one, or at it, and the sum of the k largest cross-entropies.
  function ordering(values, counts) {
    const last = values.length, number = [0], loss = [0];
    for (let rank = 0; rank < last; rank++) {
      const place = last - 1 - rank;
      number.push(number[rank] + counts[place]);
      loss.push(loss[rank] + counts[place] * softplus(values[place]));
    }
    const firstNotBelow = (z) => firstTrue(last, (place) => values[place] >= z);
    const firstAbove = (z) => firstTrue(last, (place) => values[place] > z);
    return {
      above: (z) => number[last - firstAbove(z)],
      from: (z) => number[last - firstNotBelow(z)],
      hardest(k) {
        const rank = firstTrue(last, (place) => number[place + 1] >= k);
        return rank === last ? loss[last] : loss[rank] + (k - number[rank]) * softplus(values[last - 1 - rank]);
      },
    };
  }

  // The smallest place below `end` where what is false first holds, by halves.
  function firstTrue(end, holds) {
    let low = 0, high = end;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (holds(middle)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  // The K = round(k N-) negatives with the largest logits; those at the threshold share the places that are left.
  const hardest = (k) => (others, probe, sizes) => {
    const kept = Math.min(Math.max(Math.floor(k * sizes[0] + 0.5), 1), sizes[0]);
    const share = (z) => {
      const above = others.above(z) + (probe !== null && probe > z);
      const ties = others.from(z) - others.above(z) + (probe === z);
      return Math.min(Math.max((kept - above) / ties, 0), 1);
    };
    return { kept, share };
  };

  // Whole bins of p, of equal width, from the hardest down, until there are key N+ negatives.
  const wholeBins = (key, bins) => (others, probe, sizes) => {
    const borders = Array.from({ length: bins }, (_, bin) => (bin ? Math.log(bin / (bins - bin)) : -Infinity));
    const numbers = borders.map((border) => others.from(border) + (probe !== null && probe >= border));
    const wanted = key * sizes[1];
    const lowest = wanted ? Math.max(numbers.findLastIndex((number) => number >= wanted), 0) : 0;
    return { kept: numbers[lowest], share: (z) => Number(z >= borders[lowest]) };
  };

  // ---- The random drop, averaged over its drops ----

  // d(p) with s = -log(1 - p): 1 - p = e^-s; (1 - p)^2; max(0, 1 + log10(1 - p)) = max(0, 1 - s / log 10).
  const dropProbability = {
    linear: (z) => Math.exp(-softplus(z)),
    square: (z) => Math.exp(-2 * softplus(z)),
    log: (z) => Math.max(0, 1 - softplus(z) / Math.LN10),
  };

  // Nodes and weights of Gauss and Legendre on [-1, 1]: roots of P_n by Newton, weights 2 / ((1 - x^2) P_n'(x)^2).
  function gaussLegendre(n) {
    return Array.from({ length: n }, (_, place) => {
      let x = Math.cos(Math.PI * (place + 0.75) / (n + 0.5)), slope = 1;
      for (let round = 0; round < 8; round++) {
        let before = 1, now = x;
        for (let degree = 2; degree <= n; degree++) {
          [before, now] = [now, ((2 * degree - 1) * x * now - (degree - 1) * before) / degree];
        }
        slope = n * (x * now - before) / (x * x - 1);
        x -= now / slope;
      }
      return [x, 2 / ((1 - x * x) * slope * slope)];
    });
  }
  const NODES = gaussLegendre(32);

  // Of K kept negatives each weighs 1 / (2 K), of N+ positives each 1 / (2 N+). A negative is kept with q = 1 - d, so
  // E[1 / (1 + K')] over the others is the integral of prod(1 - q_i s) over s from 0 to 1. Gradients: n q p / 2 times it,
  // and n (p - 1) / (2 N+) unless all negatives are dropped.
  function randomDrop({ schedule }) {
    const drop = dropProbability[schedule];
    return (pixels) => {
      const half = pixels.size / 2, values = pixels.values[0], positives = pixels.sizes[1];
      const q = values.map((z) => 1 - drop(z));
      // s, prod(1 - q_i s) times the weight of the node; and whether none is kept at all.
      const products = (counts) => {
        const end = Math.min(1, 46 / Math.max(sumOver(counts, (place) => q[place]), 1e-9));
        const logarithm = (s) => sumOver(counts, (place) => Math.log1p(-q[place] * s));
        const nodes = NODES.map(([x, weight]) => {
          const s = end / 2 * (x + 1);
          return [s, end / 2 * weight * Math.exp(logarithm(s))];
        });
        const nothing = counts.reduce((product, count, place) => (count ? product * (1 - q[place]) ** count : product), 1);
        return { nodes, nothing };
      };
      const all = products(pixels.counts[0]);
      const integral = (nodes, of) => nodes.reduce((sum, [s, weight]) => sum + weight * of(s), 0);
      const ofPositive = (z) => {
        const scale = half * (1 - all.nothing) / positives;
        return [scale * softplus(-z), -scale * sigmoid(-z)];
      };
      return {
        probe(label) {
          if (label) return ofPositive;
          const counts = rest(pixels, 0)[0], { nodes, nothing } = products(counts);
          const ofOthers = (s) => sumOver(counts, (place) => q[place] * softplus(values[place]) / (1 - q[place] * s));
          const sums = nodes.map(([s, weight]) => [s, weight * ofOthers(s)]);
          const [whole, first] = [integral(sums, () => 1), integral(sums, (s) => s)], one = integral(nodes, () => 1);
          const mean = sumOver(pixels.counts[1], (place) => softplus(-pixels.values[1][place])) / positives;
          return (z) => {
            const kept = 1 - drop(z);
            const loss = whole - kept * first + kept * softplus(z) * one + mean * (1 - nothing * (1 - kept));
            return [half * loss, half * kept * sigmoid(z) * one];
          };
        },
        gradient(label, place) {
          if (label) return ofPositive(pixels.values[1][place])[1];
          return half * q[place] * sigmoid(values[place]) * integral(all.nodes, (s) => 1 / (1 - q[place] * s));
        },
        kept: () => sumOver(pixels.counts[0], (place) => q[place]) / pixels.sizes[0],
        dropped: drop,
      };
    };
  }

  // ---- The losses: of parameters, then of a population ----

  const mean = (negative, positive) => [focalTerm(negative, 0), focalTerm(positive, 0)];
  const focalPair = (alpha, gamma) =>
    [focalTerm(alpha === null ? 1 : 1 - alpha, gamma), focalTerm(alpha === null ? 1 : alpha, gamma)];

  const LOSSES = {
    // -w+ y log p - w- (1 - y) log(1 - p)
    bce: ({ positive_weight, negative_weight }) => summed(mean(negative_weight, positive_weight)),
    // (p - y)^2
    squared_error: () => summed([squareTerm, squareTerm]),
    // -alpha y (1 - p)^gamma log p - (1 - alpha) (1 - y) p^gamma log(1 - p)
    focal: ({ alpha, gamma }) => summed(focalPair(alpha, gamma)),
    // 1 - 2 TP / (2 TP + FN + FP)
    dice: ({ include_background, smooth }) => summed(null, tverskyOverlap(0.5, 0.5, include_background, smooth)),
    // dice_weight Dice + bce_weight (-w+ y log p - (1 - y) log(1 - p))
    dice_bce({ dice_weight, bce_weight, positive_weight, include_background, smooth }) {
      const overlap = tverskyOverlap(0.5, 0.5, include_background, smooth, dice_weight);
      return summed(mean(bce_weight, bce_weight * positive_weight), overlap);
    },
    // v (FN + FP) / sum of v_c (2 TP_c + FN + FP + smooth), v_c = N_c^-power and v their sum; with D for the
    // denominator, by FN: v / D - v (FN + FP) (v - 2 v+) / D^2, by FP the same with v-.
    generalized_dice({ weights, smooth }) {
      const power = { square: 2, simple: 1, uniform: 0 }[weights];
      return summed(null, ([negatives, positives], fn, fp) => {
        const [of0, of1] = [negatives ** -power, positives ** -power], both = of0 + of1;
        const wrong = both * (fn + fp);
        const areas = 2 * (of0 * (negatives - fp) + of1 * (positives - fn)) + wrong + both * smooth;
        const slope = (of) => both / areas - wrong * (both - 2 * of) / (areas * areas);
        return [wrong / areas, slope(of1), slope(of0)];
      });
    },
    // 1 - TP / (TP + alpha FP + beta FN)
    tversky: ({ alpha, beta, include_background, smooth }) =>
      summed(null, tverskyOverlap(alpha, beta, include_background, smooth)),
    // (1 - T)^(1 / gamma)
    focal_tversky: ({ alpha, beta, gamma, include_background, smooth }) =>
      summed(null, tverskyOverlap(alpha, beta, include_background, smooth, 1, 1 / gamma)),
    // alpha (-beta y log p - (1 - beta) (1 - y) log(1 - p)) + (1 - alpha) Dice
    combo({ alpha, beta, include_background, like_code, smooth }) {
      const positive = alpha * (like_code ? 1 - beta : beta);
      const overlap = tverskyOverlap(0.5, 0.5, include_background || like_code, smooth, 1 - alpha);
      return summed(mean(alpha - positive, positive), overlap);
    },
    // weight focal + (1 - weight) (1 - T)^(1 / gamma), delta weighing FN
    hybrid_focal({ weight, alpha, focal_gamma, delta, tversky_gamma, include_background, smooth }) {
      const terms = focalPair(alpha, focal_gamma).map((term) => (m) => term(m).map((value) => weight * value));
      const overlap = tverskyOverlap(1 - delta, delta, include_background, smooth, 1 - weight, 1 / tversky_gamma);
      return summed(terms, overlap);
    },
    // weight / 2 ((1 - T+)^(1 - gamma) + (1 - T-)) + (1 - weight) (delta CE+ + (1 - delta) p^gamma CE-); symmetric ones
    // have the exponents of both classes at both
    unified_focal({ weight, delta, gamma, asymmetric, smooth }) {
      const terms = [
        focalTerm((1 - weight) * (1 - delta), gamma), focalTerm((1 - weight) * delta, asymmetric ? 0 : gamma),
      ];
      const of = { weight: weight / 2, exponent: 1 - gamma, missed: delta, excess: 1 - delta, smooth };
      return summed(terms, overlapOf(of, { ...of, exponent: asymmetric ? 1 : 1 - gamma }));
    },
    top_k: ({ k }) => balanced(hardest(k)),
    bin_loss: ({ key, num_bins, positive_weight }) => balanced(wholeBins(key, num_bins), positive_weight),
    random_drop: randomDrop,
  };

  const PARTS = ["positives", "false positives", "other negatives"];

  // All that LossProfile has.
  function profile(name, parameters, pixels) {
    const loss = LOSSES[name](parameters)(pixels);
    const found = { loss: [], gradient: [], weight: [], dropped: null, kept: 0, shares: {} };
    for (const label of [0, 1]) {
      const curve = GRID.map(loss.probe(label));
      const right = curve[label ? curve.length - 1 : 0][0];
      found.loss.push(curve.map(([value]) => value - right));
      found.gradient.push(curve.map(([, slope]) => slope));
      // Cross-entropy's is p - y.
      found.weight.push(curve.map(([, slope], place) => slope / byLogit(label, sigmoid(wrongness(label, GRID[place])))));
    }
    if (loss.dropped) found.dropped = GRID.map(loss.dropped);
    else if (found.gradient[0].includes(0)) found.dropped = found.gradient[0].map((slope) => Number(slope === 0));
    const sums = [0, 0, 0];
    let moved = 0;
    for (const label of [0, 1]) {
      pixels.values[label].forEach((z, place) => {
        const slope = loss.gradient(label, place), count = pixels.counts[label][place];
        sums[label ? 0 : z >= 0 ? 1 : 2] += count * Math.abs(slope);
        if (!label && slope !== 0) moved += count;
      });
    }
    found.kept = loss.kept ? loss.kept() : moved / pixels.sizes[0];
    const total = sums[0] + sums[1] + sums[2];
    PARTS.forEach((part, place) => { found.shares[part] = total > 0 ? sums[place] / total : NaN; });
    return found;
  }

  return { GRID, PARTS, LOSSES, logistic, measured, population, profile };
})();
