"""Canopy reflectance: 4SAIL for many canopies at once.

In: leaf reflectance and transmittance, shape (n, wavelength), soil reflectance, canopy structure
and geometry, shape (n,). Out: bidirectional reflectance factor of canopy and soil.

The equations are those of Verhoef 1984 (RSE 16, 125-141), Verhoef et al. 2007 (IEEE TGRS 45,
1808-1822; "4SAIL") with the hot spot of Kuusk in Breon's form, and the ellipsoidal leaf angle
distribution of Campbell 1990 (Agric. For. Meteorol. 49, 173-176), written for whole arrays.
Names follow the papers: s sun, o observer, d diffuse; k extinction per unit LAI.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAF_ANGLE_CLASSES = 18
"""Leaf inclination is integrated over classes of 5 degrees, as in the reference codes."""
_HOT_SPOT_STEPS = 20


@dataclass(frozen=True)
class Extinction:
    """What leaf angles and geometry make of a canopy; each of shape (n, 1)."""

    sun: Array
    """Extinction coefficient towards the sun, ks."""
    view: Array
    """Extinction coefficient towards the observer, ko."""
    back: Array
    """Mean squared cosine of the leaf inclination, bf."""
    scatter_reflected: Array
    """Sun to observer scattering per unit leaf reflectance, sob."""
    scatter_transmitted: Array
    """Sun to observer scattering per unit leaf transmittance, sof."""


def leaf_angle_distribution(average_leaf_angle_deg: Array) -> Array:
    """Share of leaf area in inclination classes of 5 degrees.

    Args:
        average_leaf_angle_deg: shape (n,), degrees from horizontal.

    Returns:
        Shares that sum to 1, shape (n, 18).

    Source: Campbell 1990, ellipsoidal distribution.
    """
    a = average_leaf_angle_deg[:, None]
    ratio = np.exp(-1.6184e-5 * a**3 + 2.1145e-3 * a**2 - 1.2390e-1 * a + 3.2491)
    edges = np.radians(np.linspace(0, 90, LEAF_ANGLE_CLASSES + 1))
    x = ratio / np.sqrt(1 + (ratio * np.tan(edges)) ** 2)
    spread = ratio**2 / np.maximum(np.abs(1 - ratio**2), 1e-9)
    oblate = np.sqrt(spread + x**2)
    prolate = np.sqrt(np.maximum(spread - x**2, 0))
    cumulative = np.where(
        ratio > 1,
        x * oblate + spread * np.log(x + oblate),
        x * prolate + spread * np.arcsin(np.clip(x / np.sqrt(spread), -1, 1)),
    )
    share = np.abs(np.diff(cumulative, axis=1))
    result: Array = share / share.sum(axis=1, keepdims=True)
    return result


def _interception(cos_part: Array, sin_part: Array) -> tuple[Array, Array, Array]:
    """Interception of one direction by leaves of one inclination: coefficient, beta, amplitude."""
    ratio = np.where(np.abs(sin_part) > 1e-6, -cos_part / np.where(sin_part == 0, 1, sin_part), 5.0)
    partly = np.abs(ratio) < 1  # the direction sees both faces of some leaves
    beta = np.where(partly, np.arccos(np.clip(ratio, -1, 1)), np.pi)
    amplitude = np.where(partly, sin_part, cos_part)
    coefficient = 2 / np.pi * ((beta - np.pi / 2) * cos_part + np.sin(beta) * sin_part)
    return coefficient, beta, amplitude


def extinction(
    average_leaf_angle_deg: Array,
    sun_zenith_deg: Array,
    view_zenith_deg: Array,
    relative_azimuth_deg: Array,
) -> Extinction:
    """Integrate extinction and scattering over leaf inclination.

    Args:
        average_leaf_angle_deg: shape (n,), degrees.
        sun_zenith_deg: shape (n,), degrees, below 90.
        view_zenith_deg: shape (n,), degrees, below 90.
        relative_azimuth_deg: sun minus view azimuth, shape (n,), degrees, 0-180.

    Returns:
        The coefficients of these canopies.

    Source: Verhoef 1984, functions VOLSCATT and its sum over the leaf angle distribution.
    """
    share = leaf_angle_distribution(average_leaf_angle_deg)
    step = 90 / LEAF_ANGLE_CLASSES
    inclination = np.radians(np.arange(LEAF_ANGLE_CLASSES) * step + step / 2)
    sun, view, azimuth = (
        np.radians(v)[:, None] for v in (sun_zenith_deg, view_zenith_deg, relative_azimuth_deg)
    )
    cs, ss = np.cos(inclination) * np.cos(sun), np.sin(inclination) * np.sin(sun)
    co, so = np.cos(inclination) * np.cos(view), np.sin(inclination) * np.sin(view)
    chi_s, beta_s, ds = _interception(cs, ss)
    chi_o, beta_o, do = _interception(co, so)

    low = np.abs(beta_s - beta_o)
    high = np.pi - np.abs(beta_s + beta_o - np.pi)
    b1, b2 = np.minimum(azimuth, low), np.clip(azimuth, low, high)
    b3 = np.maximum(azimuth, high)
    first = 2 * cs * co + ss * so * np.cos(azimuth)
    second = np.sin(b2) * (2 * ds * do + ss * so * np.cos(b1) * np.cos(b3))
    reflected = np.maximum((np.pi - b2) * first + second, 0) / (2 * np.pi**2)
    transmitted = np.maximum(second - b2 * first, 0) / (2 * np.pi**2)

    def total(values: Array) -> Array:
        summed: Array = np.sum(values * share, axis=1, keepdims=True)
        return summed

    both = np.cos(sun) * np.cos(view)
    return Extinction(
        sun=total(chi_s) / np.cos(sun),
        view=total(chi_o) / np.cos(view),
        back=total(np.broadcast_to(np.cos(inclination) ** 2, share.shape)),
        scatter_reflected=total(reflected) * np.pi / both,
        scatter_transmitted=total(transmitted) * np.pi / both,
    )


def _hot_spot(lai: Array, sun: Array, view: Array, alpha: Array) -> tuple[Array, Array]:
    """Joint sun-and-view transmittance of the canopy, and its integral over depth (n, 1)."""
    alpha = np.clip(alpha, 1e-6, 1e6)
    steps = np.arange(_HOT_SPOT_STEPS + 1) / _HOT_SPOT_STEPS
    reach = 1 - np.exp(-alpha)
    depth = np.minimum(-np.log1p(-steps * reach * (1 - 1e-15)) / alpha, 1.0)
    depth[:, -1] = 1.0  # equal steps in the slope of the joint probability, down to the soil
    gain = lai * np.sqrt(sun * view)
    exponent = -(sun + view) * lai * depth + gain * (-np.expm1(-alpha * depth)) / alpha
    seen = np.exp(exponent)
    d_exponent = np.diff(exponent, axis=1)
    mean = np.where(  # exponential Simpson rule; its limit where the exponent does not change
        np.abs(d_exponent) > 1e-9,
        np.diff(seen, axis=1) / np.where(np.abs(d_exponent) > 1e-9, d_exponent, 1.0),
        seen[:, 1:],
    )
    integral = np.sum(mean * np.diff(depth, axis=1), axis=1, keepdims=True)
    return seen[:, -1:], integral


def _j1(k: Array, m: Array, lai: Array, decay: Array) -> Array:
    """Verhoef's J1 = (e^-mL - e^-kL)/(k - m), with its limit where k and m meet."""
    difference = k - m
    close = np.abs(difference * lai) < 1e-3
    slow = 0.5 * lai * (np.exp(-k * lai) + decay) * (1 - (difference * lai) ** 2 / 12)
    return np.where(close, slow, (decay - np.exp(-k * lai)) / np.where(close, 1.0, difference))


def _j2(k: Array, m: Array, lai: Array) -> Array:
    """Verhoef's J2 = (1 - e^-(k+m)L)/(k + m)."""
    result: Array = -np.expm1(-(k + m) * lai) / (k + m)
    return result


def canopy_reflectance(
    leaf_reflectance: Array,
    leaf_transmittance: Array,
    soil_reflectance: Array,
    lai: Array,
    hot_spot: Array,
    angles_deg: tuple[Array, Array, Array, Array],
) -> Array:
    """Compute the bidirectional reflectance factor of canopies on soil.

    Args:
        leaf_reflectance: shape (n, wavelength), unit 1.
        leaf_transmittance: shape (n, wavelength), unit 1.
        soil_reflectance: Lambertian, shape (n, wavelength), unit 1.
        lai: leaf area index, shape (n,), m2 m-2, at least 0.
        hot_spot: leaf size over canopy height, shape (n,), above 0.
        angles_deg: average leaf angle, sun zenith, view zenith, relative azimuth; (n,), degrees.

    Returns:
        Reflectance factor for direct light, shape (n, wavelength), float64.

    Source: Verhoef et al. 2007.
    """
    ex = extinction(*angles_deg)
    sun_zenith, view_zenith, azimuth = (np.radians(a)[:, None] for a in angles_deg[1:])
    lai = np.maximum(lai, 1e-9)[:, None]  # no leaves: the limit is the soil
    rho, tau, ks, ko = leaf_reflectance, leaf_transmittance, ex.sun, ex.view

    def split(k: Array | float) -> tuple[Array, Array]:
        back, forward = 0.5 * (k + ex.back), 0.5 * (k - ex.back)
        return back * rho + forward * tau, forward * rho + back * tau

    sigma_back, sigma_forward = split(1.0)
    sb, sf = split(ks)
    vb, vf = split(ko)
    att = 1 - sigma_forward
    m = np.sqrt(att**2 - sigma_back**2)
    e1 = np.exp(-m * lai)
    rinf = (att - m) / sigma_back
    re = rinf * e1
    denominator = 1 - re * re

    j1s, j2s = _j1(ks, m, lai, e1), _j2(ks, m, lai)
    j1o, j2o = _j1(ko, m, lai, e1), _j2(ko, m, lai)
    ps, qs = (sf + sb * rinf) * j1s, (sf * rinf + sb) * j2s
    pv, qv = (vf + vb * rinf) * j1o, (vf * rinf + vb) * j2o
    rdd = rinf * (1 - e1 * e1) / denominator
    tsd = (ps - re * qs) / denominator
    tdo, rdo = (pv - re * qv) / denominator, (qv - re * pv) / denominator
    tss, too = np.exp(-ks * lai), np.exp(-ko * lai)

    z = _j2(ks, ko, lai)
    g1, g2 = (z - j1s * too) / (ko + m), (z - j1o * tss) / (ks + m)
    multiple = (
        (vf * rinf + vb) * g1 * (sf + sb * rinf)
        + (vf + vb * rinf) * g2 * (sf * rinf + sb)
        - (rdo * qs + tdo * ps) * rinf
    ) / (1 - rinf**2)

    ts, to = np.tan(sun_zenith), np.tan(view_zenith)
    distance = np.sqrt(np.maximum(ts**2 + to**2 - 2 * ts * to * np.cos(azimuth), 0))
    seen, integral = _hot_spot(lai, ks, ko, distance / hot_spot[:, None] * 2 / (ks + ko))
    single = (ex.scatter_reflected * rho + ex.scatter_transmitted * tau) * lai * integral

    soil = soil_reflectance
    through_soil = ((tss + tsd) * tdo + (tsd + tss * soil * rdd) * too) * soil / (1 - soil * rdd)
    total: Array = single + multiple + seen * soil + through_soil
    return total
